"""The trajectories of a batch as lines for training: of which jobs, and in which form.

Forms: ``messages`` is a line a job, the chat alone; ``sft`` is a line a turn of the root model, as prompt and
completion; ``jsonl`` is a line a job or sample with all that is known, see ``schema.trajectories``. The jobs
are read one by one, so their number does not matter to memory.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import BlobError, InputError
from rlm_dist.operations.trajectories import job_trajectories
from rlm_dist.schema import JobRecord, JobState, Message
from rlm_dist.schema.trajectories import JobTrajectory, TrajectoryCall, TrajectoryTurn
from rlm_dist.store import Store

Form = Literal["sft", "messages", "jsonl"]
Only = Literal["right", "succeeded"]
_RIGHT = 1.0
_JOBS_AT_ONCE = 100


@dataclass(frozen=True)
class TrainingForm:
    """The form of the lines; with ``sub_calls``, ``sft`` has the answered sub-calls as samples too."""

    name: Form
    sub_calls: bool = False

    @property
    def reads_calls(self) -> bool:
        """Whether its lines need the job's sub-calls."""
        return self.sub_calls or self.name == "jsonl"


@dataclass(frozen=True)
class Selection:
    """Which jobs to export: those with an answer, or a right one, that cost at most ``max_usd``.

    ``scores`` has the score of jobs by their id or custom id; a job is right if its score is 1 or more.
    """

    only: Only | None = None
    max_usd: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    def score(self, record: JobRecord) -> float | None:
        """The score of a job, if it has one."""
        return self.scores.get(record.spec.id, self.scores.get(record.spec.custom_id))

    def why_not(self, record: JobRecord) -> str | None:
        """Why a job is left out; None if it is not."""
        cost, score = record.costs.total_cost, self.score(record)
        if not record.state.final:
            return "not ended"
        if self.only is not None and record.state is not JobState.SUCCEEDED:
            return "without an answer"
        if self.only == "right" and score is None:
            return "without a score"
        if self.only == "right" and score is not None and score < _RIGHT:
            return "not right"
        if self.max_usd is not None and (cost is None or cost > self.max_usd):
            return "of unknown cost" if cost is None else f"dearer than ${self.max_usd:g}"
        return None


@dataclass
class ExportCounts:
    """How much was written, and what was left out: jobs and turns, by reason."""

    jobs: int = 0
    lines: int = 0
    scored: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    turns_left_out: Counter[str] = field(default_factory=Counter)


def training_lines(
    store: Store,
    payloads: Payloads,
    batch_id: str,
    form: TrainingForm,
    chosen: Selection,
    counts: ExportCounts,
) -> Iterator[object]:
    """The lines for the jobs of a batch, in the order of submission; ``counts`` is kept meanwhile."""
    for record in _records(store, batch_id, counts):
        score = chosen.score(record)
        counts.scored += score is not None
        found: list[JobTrajectory] = []
        why_not = chosen.why_not(record)
        if why_not is None:
            try:
                found = job_trajectories(store, payloads, record, score=score, calls=form.reads_calls)
            except BlobError:
                why_not = "with content that is gone"
            else:
                found, why_not = _fit(form, found)
        if why_not is not None:
            counts.left_out[why_not] += 1
            continue
        counts.jobs += 1
        for line in _lines(form, found, counts):
            counts.lines += 1
            yield line


def read_scores(path: Path) -> dict[str, float]:
    """The scores in a file of JSON lines with ``custom_id`` or ``job_id``, and ``score``.

    Other fields are ignored, so that it may be ``results.jsonl`` of ``bench quality``.

    Raises:
        InputError: if it cannot be read, or has no scores.
    """
    scores: dict[str, float] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    name, score = _score(line, f"{path}, line {number}")
                    scores[name] = score
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        raise InputError((f"{path}: {why}",)) from None
    if not scores:
        raise InputError((f"{path}: has no scores",))
    return scores


def _score(line: str, where: str) -> tuple[str, float]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError((f"{where}: is not JSON",)) from None
    name = value.get("custom_id", value.get("job_id")) if isinstance(value, dict) else None
    score = value.get("score") if isinstance(value, dict) else None
    if not isinstance(name, str) or not isinstance(score, int | float):
        raise InputError((f'{where}: is not {{"custom_id": "…", "score": a number}}',))
    return name, float(score)


def _records(store: Store, batch_id: str, counts: ExportCounts) -> Iterator[JobRecord]:
    start = 0
    while ids := store.batches.job_ids(batch_id, start, _JOBS_AT_ONCE):
        start += len(ids)
        for record in store.jobs.records(ids):
            if record is None:
                counts.left_out["removed or past its retention"] += 1
            else:
                yield record


def _lines(form: TrainingForm, found: Sequence[JobTrajectory], counts: ExportCounts) -> Iterator[object]:
    make: Mapping[Form, Callable[[JobTrajectory], Iterator[object]]] = {
        "jsonl": lambda one: iter([one]),
        "messages": _chat,
        "sft": lambda one: _samples(one, counts, sub_calls=form.sub_calls),
    }
    for one in found:
        yield from make[form.name](one)


def _fit(form: TrainingForm, found: list[JobTrajectory]) -> tuple[list[JobTrajectory], str | None]:
    """Those trajectories of a job that the form takes; if there are none, why."""
    if not form.reads_calls:  # a job's program may have handed in the answer before the model was asked
        found = [one for one in found if any(turn.problem != "program" for turn in one.turns)]
    if not found:
        return [], "without a reply"
    if form.name != "jsonl":
        found = [one for one in found if one.won]
    return found, None if found else "without a winning sample"


def _prompt(one: JobTrajectory, turn: TrajectoryTurn) -> Sequence[Message]:
    """What the model was sent in a turn."""
    return one.messages[: turn.reply] if turn.sent is None else turn.sent


def _chat(one: JobTrajectory) -> Iterator[object]:
    last = one.turns[-1]
    yield {"messages": [*_prompt(one, last), one.messages[last.reply]]}


def _samples(one: JobTrajectory, counts: ExportCounts, *, sub_calls: bool) -> Iterator[object]:
    for turn in one.turns:
        if turn.problem is not None:
            counts.turns_left_out[turn.problem] += 1
            continue
        yield {"prompt": list(_prompt(one, turn)), "completion": [one.messages[turn.reply]]}
    if sub_calls:
        yield from map(_sample_of_call, filter(_is_example, _calls_of(one)))


def _calls_of(one: JobTrajectory) -> Iterator[TrajectoryCall]:
    for turn in one.turns:
        for cell in turn.cells:
            yield from cell.calls


def _is_example(call: TrajectoryCall) -> bool:
    return call.state in ("answered", "cached") and bool(call.answer and call.answer.strip())


def _sample_of_call(call: TrajectoryCall) -> object:
    return {
        "prompt": list(call.messages),
        "completion": [Message(role="assistant", content=call.answer or "")],
    }
