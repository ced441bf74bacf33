"""The bars of a job's timeline, but for those of its sub-calls, which a page draws from their rows."""

from collections.abc import Iterator
from dataclasses import dataclass

from rlm_dist.operations.viewer.model import Trajectory
from rlm_dist.schema import JobState


@dataclass(frozen=True)
class TimelineSpan:
    """A bar: a reply of the root model, a block or a child job; ``target`` is the id of what it shows.

    ``at_ms`` is milliseconds since the job's start.
    """

    kind: str
    label: str
    at_ms: int
    ms: int
    target: str
    failed: bool = False


def timeline(job: Trajectory) -> list[TimelineSpan]:
    """The root model's replies and the blocks in order, and the child jobs that have started."""
    spans = []
    for turn in job.turns:
        title = job.title(turn).lower()
        if turn.reply is not None and turn.reply.seconds:
            ms = round(turn.reply.seconds * 1000)
            label = f"{title}: reply of {turn.reply.model}"
            spans.append(TimelineSpan("root", label, turn.reply.at_ms - ms, ms, turn.name))
        for cell in turn.cells:
            ms, label = round(cell.seconds * 1000), f"{title}, block {cell.block}"
            if not cell.running:
                spans.append(TimelineSpan("block", label, cell.at_ms, ms, cell.name, cell.failed))
    return [*spans, *_children(job)]


def _children(job: Trajectory) -> Iterator[TimelineSpan]:
    """The child jobs, in order of their start; one that runs reaches to now."""
    now_ms = round((job.ran_s or 0.0) * 1000)
    started = [(child.started_ms, child) for child in job.children if child.started_ms is not None]
    for started_ms, child in sorted(started, key=lambda pair: pair[0]):
        at_ms = started_ms - job.start_ms
        end_ms = now_ms if child.ended_ms is None else child.ended_ms - job.start_ms
        failed = child.state is JobState.FAILED
        label = f"child job {child.id}: {child.state}"
        yield TimelineSpan("child", label, at_ms, max(0, end_ms - at_ms), "children", failed)
