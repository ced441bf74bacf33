"""The spans of a job from its events: what was replayed was sent before."""

from rlm_dist.otel.spans import NO_SPANS, cell_span, job_span, turn_span
from rlm_dist.root_worker.job_spans import JobSpans
from rlm_dist.schema import (
    CallFailure,
    CallRequest,
    CallResult,
    Completion,
    JobRecord,
    JobState,
    Message,
    Outcome,
    Role,
    Usage,
)
from rlm_dist.schema.events import CellRan, Event, MessageAdded, RootReplied
from rlm_dist.store import Settlement, Spend
from tests.support.recorded_spans import RecordedSpans
from tests.support.store_values import spec

RECORD = JobRecord(spec=spec("j"), state=JobState.RUNNING, epoch=2, queued_ms=1000)
ENDED = Outcome(state=JobState.SUCCEEDED, answer="a", iterations=2)


def replied(turn: int, *, replayed: bool = False) -> RootReplied:
    return RootReplied(
        turn=turn, model="m", usage=Usage(), finish_reason="stop", seconds=1.0, replayed=replayed
    )


def ran(turn: int, *, replayed: bool = False, error: str | None = None) -> CellRan:
    return CellRan(
        turn=turn, block=0, code=f"code {turn}", output="", error=error, seconds=0.5, calls=0, failed_calls=0,
        state_lost=False, replayed=replayed,
    )  # fmt: skip


def shown(turn: int) -> MessageAdded:
    return MessageAdded(turn=turn, role="user", text="output")


OPENING: list[Event] = [
    MessageAdded(turn=0, role="system", text="s"),
    MessageAdded(turn=0, role="user", text="q"),
]


def play(*events: Event) -> list[tuple[str, int | None, int | None]]:
    """Name, id and parent of each span of a job with these events that then ends."""
    spans = RecordedSpans()
    job = JobSpans(spans, RECORD)
    passed_on: list[Event] = []
    emit = job.watch(passed_on.append)
    for event in events:
        emit(event)
    assert passed_on == list(events)
    job.end(ENDED)
    return [(span.name, span.span_id, span.parent) for span in spans.spans]


JOB = ("invoke_agent rlm", job_span("j"), None)


def turn(number: int) -> tuple[str, int, int]:
    return ("turn", turn_span("j", number), job_span("j"))


def cell(number: int) -> tuple[str, int, int]:
    return ("execute_tool python", cell_span("j", number, f"code {number}"), turn_span("j", number))


def test_each_turn_and_cell_has_one_span_below_the_job() -> None:
    events: list[Event] = [*OPENING, replied(0), ran(0), shown(0), replied(1), ran(1)]
    assert play(*events) == [cell(0), turn(0), cell(1), turn(1), JOB]


def test_what_is_replayed_is_not_sent_again() -> None:
    past: list[Event] = [*OPENING, replied(0, replayed=True), ran(0, replayed=True), shown(0)]
    assert play(*past, replied(1), ran(1), shown(1), replied(2)) == [cell(1), turn(1), turn(2), JOB]


def test_the_turn_in_which_an_earlier_run_broke_off_is_sent_by_the_run_that_ends_it() -> None:
    assert play(*OPENING, replied(0, replayed=True), ran(0), shown(0), replied(1)) == [
        cell(0),
        turn(0),
        turn(1),
        JOB,
    ]


def test_a_job_begins_with_its_submission_whichever_run_ends_it() -> None:
    spans = RecordedSpans()
    JobSpans(spans, RECORD).end(ENDED)
    (job,) = spans.spans
    assert job.began_ns == 1_000_000_000
    assert job.attributes["rlm.epoch"] == 2


def test_a_failed_cell_is_an_error() -> None:
    spans = RecordedSpans()
    JobSpans(spans, RECORD).watch(lambda _: None)(ran(0, error="Traceback: secret"))
    assert spans.spans[0].error == "error"


REQUEST = CallRequest(role=Role.ROOT, model="m", messages=(Message(role="user", content="q"),))


def test_a_root_call_that_fails_has_a_turn_to_belong_to() -> None:
    spans = RecordedSpans()
    job = JobSpans(spans, RECORD)
    failed = CallResult(failure=CallFailure(kind="auth", message="no"))
    job.root_call(REQUEST, failed, Settlement("c#1", Role.ROOT, "{}", None))
    job.end(ENDED)
    call, ended_turn, _ = spans.spans
    assert (call.parent, call.error) == (turn_span("j", 0), "auth")
    assert ended_turn.span_id == turn_span("j", 0)


def test_a_root_call_belongs_to_the_turn_that_it_begins() -> None:
    spans = RecordedSpans()
    job = JobSpans(spans, RECORD)
    emit = job.watch(lambda _: None)
    usage = Usage(input_tokens=1)
    result = CallResult(
        completion=Completion(text="", usage=usage, finish_reason="stop", model="m"), seconds=2.0
    )
    settlement = Settlement("c#1", Role.ROOT, "{}", Spend("m", usage, 1))
    for number in range(2):
        job.root_call(REQUEST, result, settlement)
        emit(replied(number))
        emit(shown(number))
    calls = [span for span in spans.spans if span.kind == "client"]
    assert [call.parent for call in calls] == [turn_span("j", 0), turn_span("j", 1)]
    assert calls[0].ended_ns - calls[0].began_ns == 2_000_000_000


def test_a_call_that_was_given_back_has_a_span_only_if_it_cost_something() -> None:
    spans = RecordedSpans()
    job = JobSpans(spans, RECORD)
    spend = Spend("m", Usage(input_tokens=1), 1)
    job.root_call(REQUEST, CallResult(), Settlement("c#1", Role.ROOT, "{}", None, returned=""))
    assert spans.spans == []
    job.root_call(REQUEST, CallResult(), Settlement("c#1", Role.ROOT, "{}", None, (spend,), returned=""))
    assert len(spans.spans) == 1


def test_when_nobody_wants_spans_the_events_go_straight_on() -> None:
    def emit(_: Event) -> None: ...

    job = JobSpans(NO_SPANS, RECORD)
    assert job.watch(emit) is emit
    assert job.cell(0, "code") is None
    job.end(ENDED)
