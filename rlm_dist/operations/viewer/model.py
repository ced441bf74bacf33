"""The trajectory of a job as a page shows it: frozen values made of its record and its events.

Times named ``_ms`` are milliseconds since the job's start. Turns and blocks have the numbers of the text
trace. A job that several workers took up ran its first turns again: each turn and block is shown once, as it
ran first, with the number of its ``replays``.

The texts of a job (query, prompts, replies, code, outputs, errors, answer) are None unless ``content`` is
asked for.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from rlm_dist.schema import (
    NANO,
    Costs,
    ErrorInfo,
    JobRecord,
    JobSpec,
    JobState,
    ModelCosts,
    Outcome,
    Usage,
    Vote,
)
from rlm_dist.schema.events import (
    REPLAY_DIVERGED,
    CellRan,
    ChildrenAnswered,
    JobEnded,
    JobStarted,
    Marked,
    MessageAdded,
    RootReplied,
    SubCallsAnswered,
    ToolCalled,
)
from rlm_dist.schema.id_lists import unpack_ids
from rlm_dist.schema.lists import ChildRow
from rlm_dist.store.trace import TracedEvent

# Facts that a reader should not overlook; other marks are shown as notes.
_WARNINGS = frozenset(
    {
        *(REPLAY_DIVERGED, "event_lost", "limit_reached", "root_attempts_failed", "state_lost", "parked"),
        *("answer_refused", "judge_unusable", "vote_tied"),
    }
)
# Marks whose detail is in our own words; that of others may quote an endpoint.
_OWN_MARKS = frozenset(
    {
        *(REPLAY_DIVERGED, "compacted", "early_final", "limit_reached", "prompts_changed"),
        *("root_attempts_failed", "state_lost", "state_rebuilt", "answer_refused"),
        *("judge_unusable", "judged", "vote_tied"),
    }
)


@dataclass(frozen=True)
class MarkView:
    """A fact about the job; ``warns`` says that it should not be overlooked."""

    at_ms: int
    kind: str
    detail: str
    warns: bool


@dataclass(frozen=True)
class ReplyView:
    """A reply of the root model, which came at ``at_ms`` after ``seconds``."""

    at_ms: int
    model: str
    usage: Usage
    finish_reason: str
    seconds: float
    text: str | None = None
    replays: int = 0


@dataclass(frozen=True)
class ToolView:
    """One call of a tool; ``arguments`` and ``result``, or the error if it failed, are JSON, maybe cut."""

    name: str
    seconds: float
    ok: bool
    from_store: bool
    arguments: str | None = None
    result: str | None = None


@dataclass(frozen=True)
class CellView:
    """A code block; ``key`` is its place among all blocks of the job, by which its sub-calls are found.

    ``calls`` counts its sub-calls and ``children``, the child jobs that it asked for; ``unused_calls`` those
    that were issued ahead and that no code of this or earlier blocks has asked for. ``running`` says that it
    has not ended, or that the job ended in it: its code and output are then not known. ``output_chars``
    counts those of the output, shown or not.
    """

    key: int
    turn: int
    block: int
    at_ms: int
    seconds: float = 0.0
    code: str | None = None
    output: str | None = None
    output_chars: int = 0
    error: str | None = None
    failed: bool = False
    calls: int = 0
    failed_calls: int = 0
    truncated_calls: int = 0
    unused_calls: int = 0
    children: int = 0
    tools: tuple[ToolView, ...] = ()
    state_lost: bool = False
    running: bool = False
    replays: int = 0

    @property
    def name(self) -> str:
        """The id of its element in the page."""
        return f"block-{self.key}"

    @property
    def sub_calls(self) -> int:
        """Its sub-calls."""
        return max(0, self.calls - self.children)


@dataclass(frozen=True)
class TurnView:
    """One turn: the root model's reply, the blocks that ran, and the message with its observation.

    ``observation_chars`` counts the characters of that message, shown or not; None while there is none.
    """

    number: int
    at_ms: int
    reply: ReplyView | None = None
    cells: tuple[CellView, ...] = ()
    marks: tuple[MarkView, ...] = ()
    observation: str | None = None
    observation_chars: int | None = None
    sample: int = 0

    @property
    def name(self) -> str:
        """The id of its element in the page."""
        return f"turn-{self.sample + 1}-{self.number}" if self.sample else f"turn-{self.number}"

    @property
    def calls(self) -> int:
        """The sub-calls of its blocks."""
        return sum(cell.sub_calls for cell in self.cells)

    @property
    def children(self) -> int:
        """The child jobs that its blocks asked for."""
        return sum(cell.children for cell in self.cells)

    @property
    def failed(self) -> bool:
        """Whether a block raised an error or lost its variables."""
        return any(cell.failed or cell.state_lost for cell in self.cells)

    @property
    def seconds(self) -> float:
        """The time of its reply and its blocks."""
        return (self.reply.seconds if self.reply else 0.0) + sum(cell.seconds for cell in self.cells)


@dataclass(frozen=True)
class Gauge:
    """What was used of a limit; ``limit`` is None if there is none, ``used`` if it is not known."""

    name: str
    used: float | None
    limit: float | None
    unit: str

    @property
    def share(self) -> float | None:
        """The used part of the limit, at most 1; None if there is no limit or the amount is unknown."""
        if self.used is None or self.limit is None:
            return None
        return min(1.0, self.used / self.limit) if self.limit else 1.0


@dataclass(frozen=True)
class TakenUp:
    """A worker took the job up, for the ``epoch``-th time."""

    at_ms: int
    epoch: int
    worker: str
    isolation: str


@dataclass(frozen=True)
class Trajectory:
    """All that the page of one job shows, but for the rows of its sub-calls.

    ``cell_of`` has the key of the block and the number within it of each sub-call that an event names.
    ``unplaced`` says that events of an earlier version name none of their calls. ``start_ms`` (Unix) is what
    other times count from. ``more_children`` counts those that ``children`` leaves out.
    """

    id: str
    custom_id: str
    batch_id: str | None
    state: JobState
    content: bool
    start_ms: int
    ran_s: float | None
    queued_s: float | None
    query: str | None
    answer: str | None
    partial_answer: str | None
    error: ErrorInfo | None
    iterations: int
    limits_reached: tuple[str, ...]
    isolation: str | None
    prompts: str
    model: str
    sub_model: str
    context: str
    costs: Costs
    models: tuple[ModelCosts, ...]
    gauges: tuple[Gauge, ...]
    runs: tuple[TakenUp, ...]
    diverged_cells: int
    marks: tuple[MarkView, ...]
    opening: tuple[tuple[str, str], ...]
    turns: tuple[TurnView, ...]
    cell_of: dict[str, tuple[int, int]] = field(repr=False)
    unplaced: bool = False
    parent_id: str | None = None
    children: tuple[ChildRow, ...] = ()
    more_children: int = 0
    samples: int = 1
    votes: tuple[Vote, ...] = ()

    def title(self, turn: TurnView) -> str:
        """The heading of a turn."""
        of = f"Sample {turn.sample + 1} of {self.samples}, turn" if self.samples > 1 else "Turn"
        return f"{of} {turn.number}"

    @property
    def cells(self) -> list[CellView]:
        """All blocks, in the order in which they ran."""
        return [cell for turn in self.turns for cell in turn.cells]

    @property
    def recoveries(self) -> int:
        """How often a worker took the job up again."""
        return max(0, len(self.runs) - 1)


def trajectory(
    record: JobRecord,
    events: Iterable[TracedEvent],
    models: Sequence[ModelCosts],
    *,
    now_ms: int,
    content: bool,
    context_text: str = "",
    children: Sequence[ChildRow] = (),
    more_children: int = 0,
) -> Trajectory:
    """The trajectory of a job at ``now_ms`` (Unix); ``context_text`` describes its context."""
    builder = _Builder(record, content=content)
    for traced in events:
        builder.add(traced)
    builder.end_open_cells()
    spec, outcome = record.spec, record.outcome or Outcome(state=record.state)
    until_ms = record.ended_ms or now_ms
    ran_s = record.run_ms(until_ms) / 1000 if record.started_ms is not None else None
    return Trajectory(
        id=spec.id, custom_id=spec.custom_id, batch_id=spec.batch_id,
        state=record.state, content=content,
        start_ms=builder.start_ms, ran_s=ran_s,
        queued_s=((record.started_ms or until_ms) - record.queued_ms) / 1000,
        query=spec.query if content else None,
        answer=outcome.answer if content else None,
        partial_answer=outcome.partial_answer if content else None,
        error=_error(outcome.error, content=content),
        iterations=outcome.iterations or len([turn for turn in builder.turns if turn.reply]),
        limits_reached=outcome.limits_reached,
        isolation=record.isolation, prompts=spec.prompts,
        model=spec.model, sub_model=spec.sub_model, context=context_text,
        costs=record.costs, models=tuple(models),
        gauges=_gauges(spec, record.costs, ran_s, len(builder.turns), outcome.iterations),
        runs=tuple(builder.runs), diverged_cells=record.diverged_cells,
        marks=tuple(mark for turn in builder.turns for mark in turn.marks if mark.warns),
        opening=tuple(builder.opening),
        turns=tuple(sorted(builder.turns, key=lambda turn: turn.sample)),
        cell_of=builder.cell_of, unplaced=builder.unplaced,
        parent_id=spec.parent_id, children=tuple(children), more_children=more_children,
        samples=spec.samples, votes=_votes(outcome.votes, content=content),
    )  # fmt: skip


# Errors whose text is our own and names no part of a prompt or an answer.
_OWN_WORDS = frozenset({"LimitExceeded", "Cancelled", "RepeatedError", "stalled", "poison"})


def _error(error: ErrorInfo | None, *, content: bool) -> ErrorInfo | None:
    """The error; without content only its type, unless its text is our own."""
    if error is None or content or error.type in _OWN_WORDS:
        return error
    return ErrorInfo(type=error.type, message="")


def _votes(votes: Iterable[Vote], *, content: bool) -> tuple[Vote, ...]:
    """The votes; without content, how many there are and of which samples."""
    return tuple(vote if content else vote.model_copy(update={"answer": ""}) for vote in votes)


def _gauges(
    spec: JobSpec, costs: Costs, ran_s: float | None, turns: int, iterations: int
) -> tuple[Gauge, ...]:
    limits = spec.limits
    usd = None if limits.max_nanousd is None else limits.max_nanousd / NANO
    return (
        Gauge("Money", costs.total_cost, usd, "USD"),
        Gauge("Tokens", costs.root_llm_tokens + costs.sub_llm_tokens, limits.max_tokens, "tokens"),
        Gauge("Sub-calls", costs.sub_llm_calls, limits.max_sub_calls, "calls"),
        Gauge("Seconds", ran_s, limits.max_seconds, "s"),
        Gauge("Turns", iterations or turns, limits.max_iterations * spec.samples, "turns"),
    )


@dataclass
class _Open:
    """What a sample has begun: what a block that has not ended has asked for; whether it has replied."""

    ids: list[str] = field(default_factory=list)
    calls: int = 0
    children: int = 0
    tools: list[ToolView] = field(default_factory=list)
    opening_over: bool = False


class _Builder:
    """Collects the turns of a job from its events in order."""

    def __init__(self, record: JobRecord, *, content: bool) -> None:
        self._content = content
        self._final = record.state.final
        self._single = record.spec.samples == 1
        self.start_ms = record.started_ms or 0
        self.turns: list[TurnView] = []
        self.opening: list[tuple[str, str]] = []
        self.runs: list[TakenUp] = []
        self.cell_of: dict[str, tuple[int, int]] = {}
        self.unplaced = False
        self._cells = 0
        self._samples: defaultdict[int, _Open] = defaultdict(_Open)

    def add(self, traced: TracedEvent) -> None:
        """Add the next event."""
        self.start_ms = self.start_ms or traced.at_ms
        at_ms = traced.at_ms - self.start_ms
        match traced.event:
            case JobStarted() as event:
                self.runs.append(TakenUp(at_ms, event.epoch, event.worker, event.isolation))
                self._samples.clear()
            case MessageAdded() as event:
                self._message(at_ms, event)
            case RootReplied() as event:
                self._reply(at_ms, event)
            case SubCallsAnswered() as event:
                self._samples[event.sample].ids += unpack_ids(event.call_ids)
                self._samples[event.sample].calls += event.calls
                self.unplaced |= event.calls > 0 and not event.call_ids
            case CellRan() as event:
                self._cell(at_ms, event)
            case Marked() as event:
                self._mark(at_ms, event)
            case ChildrenAnswered() as event:
                self._samples[event.sample].children += event.children
            case ToolCalled() as event:
                self._samples[event.sample].tools.append(self._tool(event))
            case JobEnded():
                pass  # the record says more

    def end_open_cells(self) -> None:
        """Note the block of each sample that has not ended, or in which the job ended, if there is one."""
        for sample in sorted({0, *self._samples, *(turn.sample for turn in self.turns)}):
            self._end_open_cell(sample)

    def _end_open_cell(self, sample: int) -> None:
        last, opened = self._last(sample), self._samples[sample]
        # A sample ends before its job does, so of several samples only open calls tell.
        is_open = last and last.reply and last.observation_chars is None and not self._final and self._single
        if opened.ids or opened.calls or opened.children or opened.tools or is_open:
            turn = self._turn(last.number if last else 0, 0, sample)
            cell = CellView(
                key=self._cells, turn=turn.number, block=len(turn.cells), at_ms=turn.at_ms,
                calls=opened.calls + opened.children, running=True,
                children=opened.children, tools=tuple(opened.tools),
            )  # fmt: skip
            self._cells += 1
            self._place(cell.key, sample)
            self._update(replace(turn, cells=(*turn.cells, cell)))

    def _last(self, sample: int) -> TurnView | None:
        """The latest turn of a sample."""
        return next((turn for turn in reversed(self.turns) if turn.sample == sample), None)

    def _turn(self, number: int, at_ms: int, sample: int) -> TurnView:
        for turn in reversed(self.turns):
            if (turn.sample, turn.number) == (sample, number):
                return turn
        self.turns.append(TurnView(number, at_ms, sample=sample))
        return self.turns[-1]

    def _update(self, turn: TurnView) -> None:
        self.turns = [turn if old.name == turn.name else old for old in self.turns]

    def _message(self, at_ms: int, event: MessageAdded) -> None:
        if not self._samples[event.sample].opening_over:
            if self._content and len(self.runs) <= 1 and not event.sample:
                self.opening.append((event.role, event.text))
            return
        turn = self._turn(event.turn, at_ms, event.sample)
        text = event.text if self._content else None
        if event.role == "user" and turn.observation_chars is None:
            self._update(replace(turn, observation=text, observation_chars=len(event.text)))
        elif event.role == "assistant" and turn.reply is not None and turn.reply.text is None:
            self._update(replace(turn, reply=replace(turn.reply, text=text)))

    def _reply(self, at_ms: int, event: RootReplied) -> None:
        self._samples[event.sample].opening_over = True
        turn = self._turn(event.turn, at_ms - round(event.seconds * 1000), event.sample)
        if event.replayed and turn.reply is not None:
            self._update(replace(turn, reply=replace(turn.reply, replays=turn.reply.replays + 1)))
            return
        reply = ReplyView(
            at_ms=at_ms, model=event.model, usage=event.usage, finish_reason=event.finish_reason,
            seconds=event.seconds, replays=int(event.replayed),
        )  # fmt: skip
        self._update(replace(turn, reply=reply))

    def _cell(self, at_ms: int, event: CellRan) -> None:
        turn = self._turn(event.turn, at_ms, event.sample)
        earlier = next((cell for cell in turn.cells if cell.block == event.block), None)
        if earlier is not None:
            again = replace(earlier, replays=earlier.replays + 1)
            self._place(earlier.key, event.sample)
            self._update(
                replace(turn, cells=tuple(again if cell is earlier else cell for cell in turn.cells))
            )
            return
        cell = CellView(
            key=self._cells, turn=event.turn, block=event.block,
            at_ms=at_ms - round(event.seconds * 1000), seconds=event.seconds,
            code=event.code if self._content else None,
            output=event.output if self._content else None, output_chars=len(event.output),
            error=event.error if self._content else None, failed=event.error is not None,
            calls=event.calls, failed_calls=event.failed_calls, truncated_calls=event.truncated_calls,
            unused_calls=event.unused_calls, children=self._samples[event.sample].children,
            tools=tuple(self._samples[event.sample].tools),
            state_lost=event.state_lost, replays=int(event.replayed),
        )  # fmt: skip
        self._cells += 1
        self._place(cell.key, event.sample)
        self._update(replace(turn, cells=(*turn.cells, cell)))

    def _place(self, key: int, sample: int) -> None:
        """Give the calls that a sample had answered since its last block to this one, and forget the rest."""
        opened = self._samples[sample]
        start = sum(1 for place, _ in self.cell_of.values() if place == key) if opened.ids else 0
        for call_id in opened.ids:
            if call_id not in self.cell_of:
                self.cell_of[call_id] = (key, start)
                start += 1
        opened.ids, opened.calls, opened.children, opened.tools = [], 0, 0, []

    def _tool(self, event: ToolCalled) -> ToolView:
        return ToolView(
            event.name, event.seconds, event.ok, event.from_store,
            arguments=event.arguments if self._content else None,
            result=event.result if self._content else None,
        )  # fmt: skip

    def _mark(self, at_ms: int, event: Marked) -> None:
        # Root calls mark what happens to them with turn 0: it belongs to the turn that is under way.
        last = self._last(event.sample)
        turn = self._turn(event.turn or (last.number if last else 0), at_ms, event.sample)
        detail = event.detail if self._content or event.kind in _OWN_MARKS else ""
        mark = MarkView(at_ms, event.kind, detail, event.kind in _WARNINGS)
        self._update(replace(turn, marks=(*turn.marks, mark)))
