"""The trajectories of stored jobs: what the root model was sent and replied, and what its code did.

A job that several workers took up has its events several times. Each run begins the chat again and replays
what the journal has, so the last run of a sample is the whole of it. A job without an answer may have ended
while it was replayed; the run with most turns counts then.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.engine.compaction import FittedChat, RootWindow
from rlm_dist.engine.journal import Journal
from rlm_dist.engine.loop import EMPTY_REPLY
from rlm_dist.engine.parsing import parse
from rlm_dist.engine.program import MODEL as PROGRAM_MODEL
from rlm_dist.errors import BlobError
from rlm_dist.operations.sample_outcomes import sample_answers, winner
from rlm_dist.operations.viewer.call_rows import end_of
from rlm_dist.schema import (
    NANO,
    CallRequest,
    CallResult,
    Completion,
    JobRecord,
    JobSpec,
    JobState,
    Message,
    Outcome,
)
from rlm_dist.schema.events import (
    CellRan,
    ChildrenAnswered,
    Event,
    JobStarted,
    Marked,
    MessageAdded,
    RootReplied,
    SubCallsAnswered,
    ToolCalled,
)
from rlm_dist.schema.id_lists import unpack_ids
from rlm_dist.schema.trajectories import (
    JobTrajectory,
    TrajectoryCall,
    TrajectoryCell,
    TrajectoryTool,
    TrajectoryTurn,
    TurnProblem,
)
from rlm_dist.store import Store
from rlm_dist.store.call_rows import PaidCall, StoredCall
from rlm_dist.store.trace import is_head, read_trace


@dataclass
class ReadCell:
    """A block that ran, with the ids of the sub-calls and child jobs that it asked."""

    ran: CellRan
    call_ids: list[str]
    children: list[str]
    tools: list[ToolCalled]


@dataclass
class ReadTurn:
    """A turn: ``reply`` is the place of its reply in the chat, ``sent`` what was sent if the chat was cut."""

    replied: RootReplied
    reply: int
    sent: tuple[Message, ...] | None
    cells: list[ReadCell] = field(default_factory=list)
    refused: bool = False
    problem: TurnProblem | None = None


@dataclass
class RunOfSample:
    """One run of a sample: its whole chat, its turns, and the sub-calls that no block made."""

    messages: list[Message] = field(default_factory=list)
    turns: list[ReadTurn] = field(default_factory=list)
    other_call_ids: list[str] = field(default_factory=list)


def job_trajectories(
    store: Store, payloads: Payloads, record: JobRecord, *, score: float | None = None, calls: bool = True
) -> list[JobTrajectory]:
    """The trajectories of a job that has ended, one for each of its samples with a reply, in order.

    ``calls`` says whether to read the sub-calls.

    Raises:
        BlobError: if a part of what is stored for the job is gone.
    """
    job_id, outcome = record.spec.id, record.outcome or Outcome(state=record.state)
    journal = [payloads.unpack(packed) for packed in store.journals.read(job_id)]
    events = list(_whole_events(store, payloads, job_id))
    succeeded = record.state is JobState.SUCCEEDED
    answers = sample_answers(journal, payloads)
    runs = read_runs(record.spec, events, journal, succeeded=succeeded, answered=answers.keys())
    runs = {sample: run for sample, run in sorted(runs.items()) if run.turns}
    expected = outcome.iterations if succeeded and record.spec.samples == 1 else min(outcome.iterations, 1)
    if sum(len(run.turns) for run in runs.values()) < expected or not all(map(is_whole, runs.values())):
        raise BlobError(job_id, "its trace is not whole")
    known = _stored_calls(store, payloads, job_id) if calls else {}
    named = {call_id for run in runs.values() for call_id in _ids_of(run)}
    unnamed = [call_id for call_id in known if call_id not in named]
    won = winner(record.spec, outcome, answers)
    models = tuple(store.jobs.model_costs(job_id))
    start = next((event for event in reversed(events) if isinstance(event, JobStarted)), None)
    return [
        JobTrajectory(
            job_id=job_id, custom_id=record.spec.custom_id, batch_id=record.spec.batch_id,
            sample=sample, samples=record.spec.samples, won=sample == won,
            model=start.model if start else record.spec.model,
            sub_model=start.sub_model if start else record.spec.sub_model,
            prompts=record.spec.prompts, query=record.spec.query, context=record.spec.context,
            metadata=record.spec.metadata, messages=tuple(run.messages),
            turns=tuple(_turn(turn, known) for turn in run.turns),
            other_calls=_calls([*run.other_call_ids, *(unnamed if number == 0 else [])], known),
            outcome=outcome, score=score, costs=record.costs, models=models,
        )
        for number, (sample, run) in enumerate(runs.items())
    ]  # fmt: skip


def read_runs(
    spec: JobSpec,
    events: Iterable[Event],
    journal: Sequence[str],
    *,
    succeeded: bool,
    answered: Iterable[int] = (),
) -> dict[int, RunOfSample]:
    """The run of each sample of a job; of several samples, those in ``answered`` have an answer."""
    parts: dict[int, list[list[Event]]] = {}
    begun: set[int] = set()
    for event in events:
        if isinstance(event, JobStarted):
            begun.clear()
            continue
        sample = getattr(event, "sample", 0)
        if isinstance(event, MessageAdded) and sample not in begun:
            begun.add(sample)
            parts.setdefault(sample, []).append([])
        if sample in parts:
            parts[sample][-1].append(event)
    good = {0} if spec.samples == 1 and succeeded else set(answered)
    return {
        sample: _read(
            spec, _the_run(runs, succeeded=succeeded), Journal(journal, _not_written, sample), sample in good
        )
        for sample, runs in parts.items()
    }


def is_whole(run: RunOfSample) -> bool:
    """Whether no message is missing in between: a job without room for a long event leaves it out."""
    roles = [message.role for message in run.messages]
    turns = [("user", "assistant")[number % 2] for number in range(len(roles) - 1)]
    return roles == ["system", *turns] and all(
        run.messages[turn.reply].role == "assistant" for turn in run.turns
    )


def _whole_events(store: Store, payloads: Payloads, job_id: str) -> Iterator[Event]:
    """The events of a job; BlobError if one, or a part of one, is gone."""
    for traced in read_trace(store.journals, job_id, payloads):
        event = traced.event
        if isinstance(event, Marked) and event.kind == "event_lost":
            raise BlobError(job_id, event.detail)
        texts = [event.text] if isinstance(event, MessageAdded) else []
        if isinstance(event, CellRan):
            texts = [event.code, event.output, event.error or ""]
        if any(map(is_head, texts)):
            raise BlobError(job_id, "a text of its trace was not stored as a whole")
        yield event


def _the_run(runs: Sequence[Sequence[Event]], *, succeeded: bool) -> Sequence[Event]:
    """The events of the run that is the whole of a sample."""
    if succeeded:
        return runs[-1]
    return max(reversed(runs), key=lambda run: sum(isinstance(event, RootReplied) for event in run))


class _RunReader:
    """Reads the events of one run in order; the engine says what was sent."""

    def __init__(self, spec: JobSpec, journal: Journal) -> None:
        self.run = RunOfSample()
        self._spec = spec
        self._fitted = FittedChat(spec, _not_asked, journal, _not_written, RootWindow())
        self._history = count()
        self._calls: list[str] = []
        self._children: list[str] = []
        self._tools: list[ToolCalled] = []

    def add(self, event: Event) -> None:
        """Add the next event."""
        match event:
            case MessageAdded():
                self.leave_calls()
                self.run.messages.append(Message(role=event.role, content=event.text))
            case RootReplied():
                self.leave_calls()
                self.run.turns.append(self._begun(event))
            case SubCallsAnswered():
                self._calls += unpack_ids(event.call_ids)
            case ChildrenAnswered():
                self._children += unpack_ids(event.job_ids)
            case ToolCalled():
                self._tools.append(event)
            case CellRan():
                self._cell(event)
            case Marked(kind="state_lost"):
                self._fitted.forget_cells()
                self._history = count()
            case Marked(kind="answer_refused") if self.run.turns:
                self.run.turns[-1].refused = True

    def _begun(self, event: RootReplied) -> ReadTurn:
        """The turn of a reply; a program's was sent to nobody, and the chat begins after it."""
        chat = self.run.messages
        if event.turn == 0 and event.model == PROGRAM_MODEL:
            return ReadTurn(event, len(chat), None, problem="program")
        sent = self._fitted.sent(event.turn, chat)
        return ReadTurn(event, len(chat), None if sent == tuple(chat) else sent)

    def leave_calls(self) -> None:
        """Note that no block has made the calls since the last one."""
        self.run.other_call_ids += self._calls
        self._calls, self._children, self._tools = [], [], []

    def _cell(self, event: CellRan) -> None:
        if self.run.turns:
            cell = ReadCell(event, self._calls, self._children, self._tools)
            self.run.turns[-1].cells.append(cell)
        self._calls, self._children, self._tools = [], [], []
        if not event.state_lost:
            self._fitted.note_cell(event.turn, next(self._history))


def _read(spec: JobSpec, events: Iterable[Event], journal: Journal, answered: bool) -> RunOfSample:
    reader = _RunReader(spec, journal)
    for event in events:
        reader.add(event)
    reader.leave_calls()
    run = reader.run
    run.turns = [turn for turn in run.turns if turn.reply < len(run.messages)]
    for turn in run.turns:
        text = run.messages[turn.reply].content
        turn.problem = turn.problem or _problem(turn, text, accepted=answered and turn is run.turns[-1])
    return run


def _problem(turn: ReadTurn, text: str, *, accepted: bool) -> TurnProblem | None:
    """Why a turn is no example to learn from; ``accepted`` says that its answer was the sample's."""
    reply = parse(text)
    if reply.empty or text == EMPTY_REPLY:
        return "empty"
    if reply.cut or turn.replied.finish_reason == "length":
        return "cut_off"
    if any(cell.ran.error is not None or cell.ran.state_lost for cell in turn.cells):
        return "code_error"
    if turn.refused:
        return "refused"
    is_parsed = accepted or ((reply.blocks or reply.answer) and not reply.unknown_tools)
    return None if is_parsed else "not_parsed"


def _not_asked(_: Sequence[Message]) -> Completion:
    raise AssertionError("what is stored is read, and no model is asked")


def _not_written(_: object) -> None:
    pass


def _ids_of(run: RunOfSample) -> Iterator[str]:
    yield from run.other_call_ids
    for turn in run.turns:
        for cell in turn.cells:
            yield from cell.call_ids


def _turn(turn: ReadTurn, known: Mapping[str, TrajectoryCall]) -> TrajectoryTurn:
    replied = turn.replied
    return TrajectoryTurn(
        turn=replied.turn, reply=turn.reply, model=replied.model, usage=replied.usage,
        finish_reason=replied.finish_reason, seconds=replied.seconds, sent=turn.sent,
        cells=tuple(_cell(cell, known) for cell in turn.cells), problem=turn.problem,
    )  # fmt: skip


def _cell(cell: ReadCell, known: Mapping[str, TrajectoryCall]) -> TrajectoryCell:
    ran = cell.ran
    return TrajectoryCell(
        block=ran.block, code=ran.code, output=ran.output, error=ran.error, seconds=ran.seconds,
        state_lost=ran.state_lost, calls=_calls(cell.call_ids, known), children=tuple(cell.children),
        tools=tuple(
            TrajectoryTool(
                name=tool.name, arguments=tool.arguments, result=tool.result, ok=tool.ok, seconds=tool.seconds
            )
            for tool in cell.tools
        ),
    )  # fmt: skip


def _calls(call_ids: Iterable[str], known: Mapping[str, TrajectoryCall]) -> tuple[TrajectoryCall, ...]:
    """The calls with these ids, as far as they are stored and were read."""
    return tuple(known[call_id] for call_id in call_ids if call_id in known)


def _stored_calls(store: Store, payloads: Payloads, job_id: str) -> dict[str, TrajectoryCall]:
    """The sub-calls of a job by id."""
    paid = store.call_rows.paid(job_id)
    return {
        call.id: _call(call, paid.get(call.id), payloads)
        for page in store.call_rows.pages(job_id, requests=True)
        for call in page
    }


def _call(call: StoredCall, paid: PaidCall | None, payloads: Payloads) -> TrajectoryCall:
    request = CallRequest.model_validate_json(payloads.unpack(call.request or ""))
    nanousd = 0 if paid is None else paid.nanousd
    cost = None if nanousd is None else nanousd / NANO
    if not call.result:
        return TrajectoryCall(
            id=call.id, state="not answered", model=request.model, messages=request.messages, cost=cost
        )
    result = CallResult.model_validate_json(payloads.unpack(call.result))
    completion, failure = result.completion, result.failure
    usage = completion.usage if completion else None
    return TrajectoryCall(
        id=call.id, state=end_of(result), model=completion.model if completion else request.model,
        messages=request.messages, answer=completion.text if completion else None,
        error=f"{failure.kind}: {failure.message}" if failure else None,
        input_tokens=usage.input_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None, cost=cost,
    )  # fmt: skip
