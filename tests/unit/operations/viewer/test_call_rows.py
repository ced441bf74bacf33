"""The rows of a job's sub-calls, from what is stored of them."""

from rlm_dist.errors import BlobError
from rlm_dist.operations.viewer.call_rows import COLUMNS, UNPLACED, CallRow, call_rows, texts, values
from rlm_dist.operations.viewer.model import trajectory
from rlm_dist.schema import CallResult, Completion, JobState, Usage
from rlm_dist.store.call_rows import CallStage, PaidCall, StoredCall
from tests.support.trajectories import (
    START_MS,
    answered,
    at,
    call_ids,
    made,
    ran,
    record,
    replied,
    started,
    stored_call,
)

ONE = call_ids(1)[0]


def row(call: StoredCall, *, content: bool = True, paid: PaidCall | None = None) -> CallRow:
    (made_row,) = call_rows(made(60, content=content), [call], {call.id: paid} if paid else {}, str)
    return made_row


def test_an_answered_call_has_its_times_tokens_price_and_texts() -> None:
    made_row = row(stored_call(7, of=60), paid=PaidCall(33_000, 67, 16, 16))
    assert (made_row.cell, made_row.n, made_row.state) == (1, 7, "answered")
    assert (made_row.worker, made_row.model, made_row.tier) == ("sub@host-3:103", "small-model", "flex")
    assert made_row.started_ms == 9100 + 7 * 68_000 // 60
    assert (made_row.waited_ms, made_row.latency_ms) == (100, 1483)
    assert (made_row.input, made_row.cached, made_row.output, made_row.nanousd) == (67, 16, 16, 33_000)
    assert texts(made_row) == ["Which people are named in part 7?", "Anna, Berta 7", None]
    assert len(values(made_row)) == len(COLUMNS)


def test_a_failed_call_says_why_and_what_its_attempts_cost() -> None:
    made_row = row(stored_call(999), paid=PaidCall(None, 50, 0, 1))
    assert (made_row.state, made_row.failure, made_row.attempts) == ("failed", "timeout", 3)
    assert made_row.failed_attempts == ("rate", "timeout", "timeout")
    assert (made_row.nanousd, made_row.input, made_row.output) == (None, 50, 1)
    assert made_row.failure_text == "no complete answer"


def test_without_content_a_row_has_no_texts() -> None:
    assert texts(row(stored_call(7), content=False)) == [None, None, None]
    assert texts(row(stored_call(999), content=False)) == [None, None, None]


def test_results_of_earlier_versions_have_no_time() -> None:
    done = Completion(text="a", usage=Usage(input_tokens=1), finish_reason="length", model="m")
    old = CallResult(completion=done, seconds=2.0).model_dump(exclude={"started_ms", "waited_s"})
    packed = CallResult.model_validate(old).model_dump_json()
    assert "started_ms" not in packed
    made_row = row(StoredCall(ONE, CallStage.ENDED, "w", 0, packed))
    assert (made_row.started_ms, made_row.latency_ms, made_row.state) == (None, 2000, "cut off")
    assert made_row.tier == "default"


def test_a_cached_answer_cost_nothing_and_took_no_time_of_an_endpoint() -> None:
    done = Completion(text="a", usage=Usage(input_tokens=1), finish_reason="stop", model="m")
    packed = CallResult(completion=done, cached=True, attempts=0, seconds=9).model_dump_json()
    made_row = row(StoredCall(ONE, CallStage.ENDED, "w", 0, packed))
    assert (made_row.state, made_row.nanousd, made_row.latency_ms) == ("cached", 0, None)


def test_calls_that_have_not_ended_belong_to_the_block_in_progress() -> None:
    events = [at(0, started()), at(10, replied(0)), at(20, ran(0)), at(30, replied(1))]
    job = trajectory(record(state=JobState.RUNNING), events, [], now_ms=START_MS + 40, content=True)
    calls = [
        StoredCall("a#1", CallStage.WAITING, None, 0),
        StoredCall("b#1", CallStage.CLAIMED, "p.sub@here:1", 2),
    ]
    waiting, held = call_rows(job, calls, {}, str, broker_prefix="p.")
    assert (waiting.cell, waiting.state, waiting.worker) == (1, "waiting", None)
    assert (held.cell, held.state, held.worker, held.lapsed) == (1, "in flight", "sub@here:1", 2)
    assert [waiting.n, held.n] == [0, 1]


def test_calls_that_no_event_names_are_in_no_block() -> None:
    events = [
        at(0, started()),
        at(10, replied(0)),
        at(15, answered([ONE], packed=False)),
        at(20, ran(0, calls=1)),
    ]
    job = trajectory(record(), events, [], now_ms=START_MS, content=True)
    (made_row,) = call_rows(job, [stored_call(0)], {}, str)
    assert made_row.cell == UNPLACED


def test_texts_that_are_gone_from_the_blob_store_say_so() -> None:
    def gone(packed: str) -> str:
        raise BlobError(packed, "not there")

    (made_row,) = call_rows(made(60), [stored_call(7)], {}, gone)
    assert texts(made_row) == [
        "[the prompt cannot be read: BlobError]", "[the answer cannot be read: BlobError]", None
    ]  # fmt: skip
    assert made_row.state == "answered"
