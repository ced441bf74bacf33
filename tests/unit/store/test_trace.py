"""The trace of a job: what is stored comes back unchanged, and how it is shown to a reader."""

import itertools
import json
from collections.abc import Sequence

import pytest

from rlm_dist.errors import BlobError, Unreachable
from rlm_dist.operations.trace_text import cost_lines, trace_lines
from rlm_dist.schema import ContextInfo, ErrorInfo, JobState, ModelCosts, Role, Usage
from rlm_dist.schema.events import (
    CellRan,
    Event,
    JobEnded,
    JobStarted,
    Marked,
    MessageAdded,
    RootReplied,
    SubCallsAnswered,
)
from rlm_dist.store.trace import TracedEvent, TraceSink, read_trace


class MemoryLog:
    """A job's stream in memory, with one id every two seconds; it can be made unreachable."""

    def __init__(self) -> None:
        self.away = False
        self.entries: list[tuple[str, str]] = []

    def append_events(self, job_id: str, payloads: Sequence[str]) -> None:
        if self.away:
            raise Unreachable("Redis", "localhost", "it is away", "")
        for payload in payloads:
            self.entries.append((f"{2000 * (len(self.entries) + 1)}-0", payload))

    def read_events(
        self, job_id: str, after: str = "0", block_ms: int | None = None
    ) -> list[tuple[str, str]]:
        cut = int(after.partition("-")[0])
        return [entry for entry in self.entries if int(entry[0].partition("-")[0]) > cut]


class MemoryPayloads:
    """Packs away texts of more than 1000 characters; it can be full, and can lose what it has."""

    def __init__(self, *, full: bool = False) -> None:
        self.packed: dict[str, str] = {}
        self.full = full

    def pack(self, job_id: str, text: str) -> str:
        if len(text) <= 1000:
            return text
        if self.full:
            raise BlobError("text", "no space left on the device")
        self.packed[f"{job_id}/{len(self.packed)}"] = text
        return f"{job_id}/{len(self.packed) - 1}"

    def unpack(self, packed: str) -> str:
        if packed.startswith("{"):
            return packed
        if packed not in self.packed:
            raise BlobError(packed, "not there")
        return self.packed[packed]


def cell(output: str = "3\n", code: str = "print(1+2)", error: str | None = None) -> CellRan:
    return CellRan(
        turn=1,
        block=1,
        code=code,
        output=output,
        error=error,
        seconds=0.25,
        calls=4,
        failed_calls=1,
        truncated_calls=2,
        state_lost=False,
    )


EVENTS: list[Event] = [
    JobStarted(
        job_id="j1",
        epoch=2,
        worker="root@here",
        model="big",
        sub_model="small",
        prompts="coder",
        isolation="off",
        context=ContextInfo(kind="list", chars=1234567, items=3),
    ),
    MessageAdded(turn=0, role="system", text="You have a REPL."),
    RootReplied(
        turn=1,
        model="big",
        usage=Usage(input_tokens=1500, cached_tokens=100, output_tokens=20),
        finish_reason="length",
        seconds=1.5,
        replayed=True,
    ),
    MessageAdded(turn=1, role="assistant", text="```repl\nprint(1+2)\n```"),
    SubCallsAnswered(first_call_id="c1", calls=4, failed=1, from_store=2, seconds=0.5),
    cell(error="ValueError: no"),
    Marked(turn=1, kind="early_final", detail="an answer beside code"),
    JobEnded(state=JobState.SUCCEEDED, answer="forty\ntwo", error=None, iterations=2),
]


def stored(*events: Event, payloads: MemoryPayloads | None = None) -> tuple[MemoryLog, MemoryPayloads]:
    log, payloads = MemoryLog(), payloads or MemoryPayloads()
    times = itertools.count(1000, 1000)
    sink = TraceSink(log, "j1", payloads, now_ms=lambda: next(times))
    for event in events:
        sink(event)
    sink.flush()
    return log, payloads


def test_what_is_stored_comes_back_in_order_with_its_time() -> None:
    log, payloads = stored(*EVENTS)
    trace = list(read_trace(log, "j1", payloads))
    assert [item.event for item in trace] == EVENTS
    assert [item.at_ms for item in trace] == [1000 * (n + 1) for n in range(len(EVENTS))]


def test_the_time_of_an_event_of_0_1_0_is_that_of_its_stream_id() -> None:
    log, payloads = stored(EVENTS[1])
    stream_id, payload = log.entries[0]
    log.entries[0] = (stream_id, json.dumps({k: v for k, v in json.loads(payload).items() if k != "at_ms"}))
    assert [item.at_ms for item in read_trace(log, "j1", payloads)] == [2000]


def test_what_could_not_be_stored_is_stored_the_next_time_in_order() -> None:
    log, payloads = MemoryLog(), MemoryPayloads()
    sink = TraceSink(log, "j1", payloads, now_ms=lambda: 1)
    sink(EVENTS[1])
    log.away = True
    with pytest.raises(Unreachable):
        sink.flush()
    sink(EVENTS[2])
    log.away = False
    sink.flush()
    sink.flush()
    assert [item.event for item in read_trace(log, "j1", payloads)] == EVENTS[1:3]


def test_events_that_are_handed_over_stay_until_they_are_stored() -> None:
    """The last event is made again each time."""
    log, payloads, times = MemoryLog(), MemoryPayloads(), itertools.count(1)
    sink = TraceSink(log, "j1", payloads, now_ms=lambda: next(times))
    sink(EVENTS[1])

    def store(payloads: Sequence[str]) -> bool:
        log.append_events("j1", payloads)
        return True

    sink.hand_over(lambda payloads: False, last=EVENTS[-1])
    sink.hand_over(store, last=EVENTS[-1])
    sink.flush()
    trace = [(item.event, item.at_ms) for item in read_trace(log, "j1", payloads)]
    assert trace == [(EVENTS[1], 1), (EVENTS[-1], 3)]


def test_reading_goes_on_after_a_stream_id() -> None:
    log, payloads = stored(*EVENTS)
    assert [item.event for item in read_trace(log, "j1", payloads, after="12000-0")] == EVENTS[6:]


@pytest.mark.parametrize("character", ["x", "ü", "\ud800"])
def test_a_large_event_is_packed_away_and_comes_back_whole(character: str) -> None:
    event = cell(output=character * 100_000 + "end")
    log, payloads = stored(event)
    assert log.entries[0][1] == "j1/0"
    assert [item.event for item in read_trace(log, "j1", payloads)] == [event]


def test_a_lone_surrogate_in_a_short_text_is_kept() -> None:
    log, payloads = stored(cell(output="a\ud800b"))
    assert log.entries[0][1].isascii()
    assert [item.event for item in read_trace(log, "j1", payloads)] == [cell(output="a\ud800b")]


def test_a_full_blob_store_costs_the_tail_of_a_text_and_not_the_job() -> None:
    log, payloads = stored(cell(output="x" * 200_000), payloads=MemoryPayloads(full=True))
    (traced,) = read_trace(log, "j1", payloads)
    assert isinstance(traced.event, CellRan)
    assert traced.event.output.startswith("xxx")
    assert traced.event.output.endswith("[the rest could not be stored: no space left on the device]")
    assert len(log.entries[0][1]) < 5000


def test_a_lost_event_is_said_to_be_lost_and_the_rest_is_shown() -> None:
    log, payloads = stored(cell(output="x" * 200_000), EVENTS[-1])
    payloads.packed.clear()
    assert [item.event for item in read_trace(log, "j1", payloads)] == [
        Marked(turn=0, kind="event_lost", detail="not there"),
        EVENTS[-1],
    ]


def test_the_text_form_shows_turns_code_output_calls_times_and_the_end() -> None:
    log, payloads = stored(*EVENTS)
    assert list(trace_lines(read_trace(log, "j1", payloads))) == [
        "job j1 on root@here, attempt 2",
        "  model big, sub model small, prompts coder",
        "  sandbox: off; context: list of 3 items, 1,234,567 characters",
        "",
        "── turn 0  (+1.0 s)",
        "  system: (16 characters)",
        "    You have a REPL.",
        "",
        "── turn 1  (+2.0 s)",
        "  reply of big: 1,500 tokens in (100 cached), 20 out, 1.5 s, finish reason length, from the journal",
        "  assistant: (22 characters)",
        "    ```repl",
        "    print(1+2)",
        "    ```",
        "  4 sub-calls answered in 0.5 s, 1 failed, 2 were answered before",
        "  code block 1: 0.2 s, 4 sub-calls, 1 failed, 2 cut off",
        "    > print(1+2)",
        "    3",
        "    ! ValueError: no",
        "  ! early_final: an answer beside code",
        "",
        "succeeded after 2 turns",
        "  forty",
        "  two",
    ]


def test_ids_that_cannot_be_stored_are_left_out_whole() -> None:
    """The head of a list of ids would look like the whole list."""
    log, full = MemoryLog(), MemoryPayloads(full=True)
    sink = TraceSink(log, "j1", full, now_ms=lambda: 7)
    sink(
        SubCallsAnswered(first_call_id="c", calls=9, failed=0, from_store=0, seconds=1, call_ids="a " * 3000)
    )
    sink.flush()
    (traced,) = read_trace(log, "j1", full)
    assert isinstance(traced.event, SubCallsAnswered)
    assert (traced.event.calls, traced.event.call_ids) == (9, "")


def test_a_failed_job_shows_why() -> None:
    event = JobEnded(
        state=JobState.FAILED,
        answer=None,
        error=ErrorInfo(type="auth", message="the key is refused"),
        iterations=1,
    )
    assert list(trace_lines([TracedEvent("1-0", 1, event)])) == [
        "",
        "failed after 1 turn",
        "  auth: the key is refused",
    ]


def test_a_long_observation_is_cut_with_its_length_told() -> None:
    lines = list(trace_lines([TracedEvent("1-0", 1, MessageAdded(turn=2, role="user", text="y" * 800))]))
    assert lines[-2] == "  user: (800 characters)"
    assert lines[-1] == "    " + "y" * 500 + " [… 300 more characters]"


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    known = ModelCosts(
        role=Role.ROOT, model="big", calls=1, input_tokens=10, cached_tokens=0, output_tokens=5, cost=0.25
    )
    unknown = known.model_copy(update={"role": Role.SUB, "model": "mine", "calls": 2, "cost": None})
    assert list(cost_lines([known, unknown])) == [
        "  root big: 1 call, 10 tokens in (0 cached), 5 out, $0.250000",
        "  sub mine: 2 calls, 10 tokens in (0 cached), 5 out, price unknown",
    ]
