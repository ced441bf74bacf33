"""Traces, costs and counts as plain text."""

from collections.abc import Iterable, Iterator, Sequence

from rlm_dist.schema import DEFAULT_TIER, ContextInfo, ModelCosts, Usage, Vote
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
from rlm_dist.schema.lists import ChildRow
from rlm_dist.store.trace import TracedEvent

_LATER_MESSAGE_CHARS = 500  # a later user message mostly repeats the output above it


def trace_lines(trace: Iterable[TracedEvent]) -> Iterator[str]:
    """A trace as lines of plain text, turn by turn, with the seconds since its first event.

    Samples run side by side; in each run of the job they are shown one after another.
    """
    start_ms: int | None = None
    at: tuple[int, int] | None = None
    samples = 1
    for traced in _by_sample(trace):
        event = traced.event
        start_ms = traced.at_ms if start_ms is None else start_ms
        samples = event.samples if isinstance(event, JobStarted) else samples
        event_turn = getattr(event, "turn", None)
        now = None if event_turn is None else (getattr(event, "sample", 0), event_turn)
        if now is not None and now != at:
            at = now
            of = f"sample {now[0] + 1} of {samples}, " if samples > 1 else ""
            yield ""
            yield f"── {of}turn {now[1]}  (+{(traced.at_ms - start_ms) / 1000:.1f} s)"
        yield from event_lines(event)


def _by_sample(trace: Iterable[TracedEvent]) -> Iterator[TracedEvent]:
    """The events of each run of a job, sample by sample; those of a job without samples as they come."""
    held: list[TracedEvent] = []
    sampled = False
    for traced in trace:
        event = traced.event
        if isinstance(event, JobStarted | JobEnded):
            yield from sorted(held, key=lambda held: getattr(held.event, "sample", 0))
            held, sampled = [], isinstance(event, JobStarted) and event.samples > 1
        if sampled and not isinstance(event, JobStarted):
            held.append(traced)
        else:
            yield traced
    yield from sorted(held, key=lambda held: getattr(held.event, "sample", 0))


def vote_lines(votes: Sequence[Vote]) -> Iterator[str]:
    """The answers of a job's samples, each with its votes and the samples that gave it, counted from 1."""
    for vote in votes:
        samples = ", ".join(str(number + 1) for number in vote.samples)
        yield f"{calls(vote.count, 'vote')} (sample {samples}): {vote.answer}"


def event_lines(event: Event) -> Iterator[str]:
    """One event as lines of plain text."""
    match event:
        case JobStarted():
            yield from _started(event)
        case MessageAdded():
            yield from _message(event)
        case RootReplied():
            yield f"  reply of {event.model}: {tokens(event.usage)}, {event.seconds:.1f} s" + _suffix(
                f"finish reason {event.finish_reason}" if event.finish_reason != "stop" else "",
                "from the journal" if event.replayed else "",
            )
        case CellRan():
            yield from _cell(event)
        case SubCallsAnswered():
            yield f"  {calls(event.calls)} answered in {event.seconds:.1f} s" + _suffix(
                f"{event.failed} failed" if event.failed else "",
                f"{event.from_store} were answered before" if event.from_store else "",
                *(f"{count} by the tier {tier}" for tier, count in sorted(event.tiers.items())),
            )
        case ChildrenAnswered():
            yield f"  {calls(event.children, 'child job')} ended in {event.seconds:.1f} s" + _suffix(
                f"{event.failed} failed" if event.failed else ""
            )
        case ToolCalled():
            yield from _tool(event)
        case Marked():
            yield f"  ! {event.kind}" + (f": {event.detail}" if event.detail else "")
        case JobEnded():
            yield from _ended(event)


def cost_lines(costs: Sequence[ModelCosts]) -> Iterator[str]:
    """Calls, tokens and money of each model and tier, one line each; an unknown price is shown as unknown."""
    for line in costs:
        money = "price unknown" if line.cost is None else f"${line.cost:.6f}"
        inputs = _parts((line.cached_tokens, "cached"), (line.cache_write_tokens, "written to the cache"))
        outputs = _parts((line.reasoning_tokens, "reasoning")) if line.reasoning_tokens else ""
        yield (
            f"  {line.role} {line.model}{_tier(line.tier)}: {calls(line.calls, 'call')}, "
            f"{line.input_tokens:,} tokens in{inputs}, {line.output_tokens:,} out{outputs}, {money}"
        ) + _suffix(
            f"{line.audio_tokens:,} tokens of audio" if line.audio_tokens else "",
            f"{calls(line.billed_calls, 'call')} as billed by the endpoint" if line.billed_calls else "",
        )


def child_lines(children: Sequence[ChildRow], more: int = 0) -> Iterator[str]:
    """The children of a job, one line each, and how many more there are."""
    for child in children:
        costs = child.costs
        made = calls(costs.root_llm_calls + costs.sub_llm_calls, "call")
        price = "price unknown" if costs.total_cost is None else f"${costs.total_cost:.6f}"
        took = "" if child.seconds is None else f"{child.seconds:.1f} s"
        yield f"  {child.id}: {child.state}, {calls(child.turns, 'turn')}, {made}, {price}" + _suffix(took)
    if more:
        yield f"  and {more:,} more"


def _tier(tier: str | None) -> str:
    return "" if tier in (None, DEFAULT_TIER) else f" ({tier})"


def _parts(first: tuple[int, str], *others: tuple[int, str]) -> str:
    """Counts with their names in brackets; those after the first are left out if they are 0."""
    shown = [first, *(part for part in others if part[0])]
    return " (" + ", ".join(f"{count:,} {name}" for count, name in shown) + ")"


def calls(count: int, noun: str = "sub-call") -> str:
    """A count with its noun, in the plural unless the count is 1."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def tokens(usage: Usage) -> str:
    """Tokens in a few words, with "about" if they are our own estimate."""
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    about = "about " if usage.estimated else ""
    return f"{about}{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out{_tier(usage.tier)}"


def context_text(info: ContextInfo) -> str:
    """The kind and size of a context, in a few words."""
    if info.kind == "str":
        return f"text of {info.chars:,} characters"
    noun = {"list": "list", "dict": "dict", "json": "JSON value"}[info.kind]
    items = "" if info.kind == "json" else f" of {info.items:,} items,"
    return f"{noun}{items} {info.chars:,} characters"


def _started(event: JobStarted) -> Iterator[str]:
    attempt = f", attempt {event.epoch}" if event.epoch > 1 else ""
    yield f"job {event.job_id} on {event.worker}{attempt}"
    yield f"  model {event.model}, sub model {event.sub_model}, prompts {event.prompts}{_digest(event)}"
    yield f"  sandbox: {event.isolation}; context: {context_text(event.context)}"
    if event.session is not None:
        yield f"  session: {event.session}"


def _digest(event: JobStarted) -> str:
    return f" ({event.prompts_sha256[:12]})" if event.prompts_sha256 else ""


def _message(event: MessageAdded) -> Iterator[str]:
    text = event.text
    if event.role == "user" and event.turn > 0 and len(text) > _LATER_MESSAGE_CHARS:
        text = f"{text[:_LATER_MESSAGE_CHARS]} [… {len(text) - _LATER_MESSAGE_CHARS:,} more characters]"
    yield f"  {event.role}: ({len(event.text):,} characters)"
    yield from _indented(text)


def _cell(event: CellRan) -> Iterator[str]:
    yield f"  code block {event.block}: {event.seconds:.1f} s" + _suffix(
        calls(event.calls) if event.calls else "",
        f"{event.failed_calls} failed" if event.failed_calls else "",
        f"{event.truncated_calls} cut off" if event.truncated_calls else "",
        "run again to replay the journal" if event.replayed else "",
        "the REPL was restarted" if event.state_lost else "",
    )
    yield from _indented(event.code, "    > ")
    yield from _indented(event.output)
    if event.error:
        yield from _indented(event.error, "    ! ")


def _tool(event: ToolCalled) -> Iterator[str]:
    yield f"  tool {event.name}: {event.seconds:.1f} s" + _suffix(
        "" if event.ok else "failed", "was called before" if event.from_store else ""
    )
    yield from _indented(event.arguments, "    > ")
    yield from _indented(event.result, "    " if event.ok else "    ! ")


def _ended(event: JobEnded) -> Iterator[str]:
    yield ""
    yield f"{event.state} after {calls(event.iterations, 'turn')}"
    if event.error:
        yield f"  {event.error.type}: {event.error.message}"
    for line in vote_lines(event.votes):
        yield from _indented(line, "  ")
    if event.answer is not None:
        yield from _indented(event.answer, "  ")


def _suffix(*parts: str) -> str:
    return "".join(f", {part}" for part in parts if part)


def _indented(text: str, prefix: str = "    ") -> Iterator[str]:
    for line in text.splitlines():
        yield prefix + line
