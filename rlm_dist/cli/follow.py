"""Follows one job on the terminal: shows its progress while it runs, and cancels it on Ctrl-C."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from rlm_dist.cli.output import Output, money
from rlm_dist.errors import Cancelled
from rlm_dist.operations.trace_text import calls, context_text, tokens
from rlm_dist.schema import Result
from rlm_dist.schema.events import (
    CellRan,
    ChildrenAnswered,
    Event,
    JobEnded,
    JobStarted,
    Marked,
    MessageAdded,
    RootReplied,
    SubCallsAnswered,
    ToolCalled,
)

_CANCEL_S = 30.0
# What marks of the trace mean; the words of others are their names.
_MARKS = {
    "root_attempts_failed": "attempts to ask the root model failed before it replied",
    "parameters_not_taken": "the model does not take these parameters, which were left out",
    "limit_reached": "the next turn is the last one",
    "early_final": "early answer",
    "compacted": "older turns were cut, as the chat nears the root model's window",
    "prompts_changed": "the prompt file changed; the job goes on with the texts that it began with",
    "parked": "the job waits for another worker",
    "event_lost": "a part of the trace was lost",
}


class JobHandle(Protocol):
    """What ``follow`` needs of a job."""

    id: str

    def events(self) -> Iterator[Event]:
        """The job's events, until it ends."""

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the job's result."""

    def cancel(self) -> object:
        """Cancel the job."""


def follow(
    job: JobHandle, out: Output, lines_of: Callable[[Event], Iterable[str]] = lambda event: ()
) -> Result:
    """Show what a job does until it has ended; Ctrl-C cancels it, and a second Ctrl-C exits at once.

    The lines that ``lines_of`` makes of an event stay on the screen.

    Raises:
        Cancelled: if the job's worker does not act on the cancellation in time; it will do so later.
    """
    progress = Progress()
    try:
        out.note(f"job {job.id}: waiting for a worker")
        with out.panel() as show:
            for event in job.events():
                for line in lines_of(event):
                    out.note(line)
                text = progress.text(event)
                if text:
                    show(text)
        return job.result()
    except KeyboardInterrupt:
        out.note(f"cancelling job {job.id}")
        job.cancel()
        try:
            return job.result(timeout=_CANCEL_S)
        except TimeoutError:
            raise Cancelled(job.id) from None


class Progress:
    """Makes the line of progress that is shown after each event of a job."""

    def __init__(self) -> None:
        self._sub_calls = 0
        self._replies = 0
        self._children = 0

    def text(self, event: Event) -> str:
        """The line after this event; empty if the event shows nothing new."""
        match event:
            case JobStarted():
                self._replies = 0
                return f"started on {event.worker}; {context_text(event.context)}"
            case MessageAdded(role="user"):
                return f"turn {self._replies + 1}: asking the root model{self._so_far()}"
            case RootReplied():
                self._replies = event.turn + 1
                return f"turn {self._replies}: replied in {event.seconds:.1f} s, {tokens(event.usage)}"
            case SubCallsAnswered():
                self._sub_calls += event.calls
                return f"{calls(self._sub_calls)} done"
            case ChildrenAnswered():
                self._children += event.children
                return f"{calls(self._children, 'child job')} ended"
            case ToolCalled():
                return f"tool {event.name}: {event.seconds:.1f} s" + ("" if event.ok else ", failed")
            case CellRan():
                problem = f", {event.error.splitlines()[-1]}" if event.error else ""
                return f"turn {event.turn + 1}: code ran {event.seconds:.1f} s{self._so_far()}{problem}"
            case Marked():
                return _marked(event)
            case JobEnded():
                return f"{event.state} after {calls(event.iterations, 'turn')}{self._so_far()}"
        return ""

    def _so_far(self) -> str:
        return f", {calls(self._sub_calls)} done" if self._sub_calls else ""


def _marked(event: Marked) -> str:
    words = _MARKS.get(event.kind, event.kind.replace("_", " "))
    return f"{words}: {event.detail}" if event.detail else words


def result_lines(result: Result) -> Iterator[str]:
    """The answer of a job, or its partial answer, if it has one."""
    if result.answer is not None:
        yield result.answer
    elif result.partial_answer is not None:
        yield f"[partial] {result.partial_answer}"


def cost_note(result: Result) -> str:
    """A job's state, reason, usage and cost in one line."""
    costs = result.costs
    why = f" ({result.error.type}: {result.error.message})" if result.error else ""
    why = why or "".join(f" (limit {kind} reached)" for kind in result.limits_reached)
    return (
        f"{result.state}{why}: {calls(result.iterations, 'turn')}, {calls(costs.sub_llm_calls)}, "
        f"root {costs.root_llm_tokens:,} and sub {costs.sub_llm_tokens:,} tokens, "
        f"cost {money(costs.total_cost)}, {result.timing.run_s or 0:.1f} s"
    )
