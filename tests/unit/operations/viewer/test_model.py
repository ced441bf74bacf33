"""What a page shows of a job, from its record and events."""

import pytest

from rlm_dist.operations.viewer.model import ToolView, Trajectory, trajectory
from rlm_dist.operations.viewer.timeline import timeline
from rlm_dist.schema import ErrorInfo, JobState
from rlm_dist.schema.events import ChildrenAnswered, JobEnded, Marked, ToolCalled
from rlm_dist.schema.lists import ChildRow
from rlm_dist.store.trace import TracedEvent
from tests.support.trajectories import (
    MODELS,
    START_MS,
    answered,
    at,
    call_ids,
    made,
    ran,
    record,
    replied,
    say,
    started,
)


def of(*events: TracedEvent, state: JobState = JobState.SUCCEEDED, content: bool = True) -> Trajectory:
    return trajectory(record(state=state), events, MODELS, now_ms=START_MS + 50_000, content=content)


def test_turns_have_their_reply_their_blocks_and_the_observation() -> None:
    job = made(60)
    assert [turn.number for turn in job.turns] == [0, 1, 2]
    first, second, third = job.turns
    assert first.reply is not None
    assert first.reply.text == "I look at the shape of the context first."
    assert (first.at_ms, first.reply.at_ms) == (400, 4000)
    assert second.observation == "Output: 206 Anna, Berta"
    assert [cell.calls for cell in second.cells] == [60]
    assert [cell.failed for cell in third.cells] == [True, False]
    assert job.opening == (("system", "You have a REPL."), ("user", "Who are the people?"))
    assert [cell.key for cell in job.cells] == [0, 1, 2, 3]


def test_the_calls_of_a_block_are_those_answered_before_its_end() -> None:
    ids = call_ids(5)
    job = of(
        at(0, started()),
        at(10, replied(0)),
        at(20, answered(ids[:2])),
        at(30, ran(0, calls=2)),
        at(40, answered(ids[2:3])),
        at(50, answered(ids[3:])),
        at(60, ran(0, 1, calls=3)),
    )
    assert [job.cell_of[call_id] for call_id in ids] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert not job.unplaced


def test_events_of_earlier_versions_do_not_tell_which_calls_a_block_made() -> None:
    job = of(
        at(0, started()),
        at(10, replied(0)),
        at(20, answered(call_ids(3), packed=False)),
        at(30, ran(0, calls=3)),
    )
    assert job.unplaced
    assert job.cell_of == {}
    assert job.cells[0].calls == 3


def test_a_job_that_was_taken_up_again_shows_each_turn_once() -> None:
    ids = call_ids(2)
    job = of(
        at(0, started()),
        at(1, say(0, "user", "Who?")),
        at(10, replied(0)),
        at(20, answered(ids)),
        at(30, ran(0, calls=2, seconds=0.02)),
        at(100, started(2, "root@there:2")),
        at(101, say(0, "user", "Who?")),
        at(110, replied(0, seconds=0, replayed=True)),
        at(120, answered(ids)),
        at(130, ran(0, calls=2, replayed=True)),
        at(131, say(0, "user", "Output")),
        at(140, replied(1)),
        at(150, ran(1)),
    )
    assert [(turn.number, len(turn.cells)) for turn in job.turns] == [(0, 1), (1, 1)]
    assert job.turns[0].cells[0].replays == 1
    assert job.turns[0].cells[0].seconds == 0.02
    assert job.turns[0].reply is not None
    assert job.turns[0].reply.replays == 1
    assert job.turns[0].observation == "Output"
    assert job.opening == (("user", "Who?"),)
    assert job.recoveries == 1
    assert [run.worker for run in job.runs] == ["root@here:1", "root@there:2"]
    assert set(job.cell_of.values()) == {(0, 0), (0, 1)}


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.CANCELLED])
def test_a_block_without_an_end_is_shown_with_its_calls(state: JobState) -> None:
    job = of(at(0, started()), at(10, replied(0)), at(20, answered(call_ids(2))), state=state)
    (cell,) = job.cells
    assert cell.running
    assert cell.calls == 2
    assert set(job.cell_of.values()) == {(0, 0), (0, 1)}


def test_a_job_that_asks_its_model_is_in_no_block() -> None:
    asking = [at(0, started()), at(10, replied(0)), at(20, ran(0)), at(21, say(0, "user", "Output"))]
    assert not of(*asking, state=JobState.RUNNING, content=False).cells[-1].running
    assert of(*asking[:2], state=JobState.RUNNING, content=False).cells[-1].running


def test_marks_are_with_their_turn_and_some_are_warnings() -> None:
    job = of(
        at(0, started()),
        at(10, replied(0)),
        at(15, Marked(turn=0, kind="early_final", detail="soon")),
        at(20, replied(3)),
        at(25, Marked(turn=0, kind="root_attempts_failed", detail="rate")),
        at(30, JobEnded(state=JobState.SUCCEEDED, answer="a", error=None, iterations=1)),
    )
    assert [(mark.kind, mark.at_ms) for mark in job.marks] == [("root_attempts_failed", 25)]
    assert [[mark.kind for mark in turn.marks] for turn in job.turns] == [
        ["early_final"],
        ["root_attempts_failed"],
    ]


def test_gauges_say_what_was_used_of_which_limit() -> None:
    gauges = {gauge.name: gauge for gauge in made(60).gauges}
    assert (gauges["Money"].used, gauges["Money"].limit) == (0.4321, 2.0)
    assert gauges["Money"].share == pytest.approx(0.21605)
    assert (gauges["Tokens"].used, gauges["Tokens"].limit, gauges["Tokens"].share) == (809_000, None, None)
    assert gauges["Sub-calls"].share == 0.5
    assert (gauges["Seconds"].used, gauges["Seconds"].limit) == (95.0, 600.0)
    assert (gauges["Turns"].used, gauges["Turns"].limit) == (3, 20)


def test_the_timeline_has_each_reply_and_block_where_it_ran() -> None:
    spans = timeline(made(60))
    assert [(span.kind, span.at_ms, span.ms) for span in spans[:4]] == [
        ("root", 400, 3600),
        ("block", 4100, 300),
        ("root", 4900, 4100),
        ("block", 9100, 70_900),
    ]
    assert [span.target for span in spans[-2:]] == ["block-2", "block-3"]


def test_without_content_there_is_no_text_of_the_job() -> None:
    secret = " SECRET"
    failed = ErrorInfo(type="invalid", message=f"the endpoint said{secret}")
    job = made(60, secret, content=False, error=failed, answer=secret, state=JobState.FAILED)
    assert secret not in repr(job)
    assert job.error is not None
    assert job.error.type == "invalid"
    assert secret in repr(made(60, secret))


def test_a_job_that_waits_has_a_page_too() -> None:
    waiting = record(state=JobState.QUEUED, started_ms=None, since_ms=None, epoch=0, isolation=None)
    job = trajectory(waiting, [], [], now_ms=START_MS, content=True)
    assert (job.turns, job.ran_s, job.queued_s) == ((), None, 1.5)


def asked(children: int, turn: int = 0) -> ChildrenAnswered:
    return ChildrenAnswered(turn=turn, children=children, failed=0, seconds=1.0, job_ids="")


def test_child_jobs_of_a_block_are_no_sub_calls_of_it() -> None:
    events = (
        at(0, started()),
        at(10, replied(0)),
        at(20, answered(call_ids(2))),
        at(25, asked(3)),
        at(30, ran(0, calls=5)),
        at(40, ran(0, 1, calls=0)),
    )
    job = of(*events)
    assert [(cell.calls, cell.sub_calls, cell.children) for cell in job.cells] == [(5, 2, 3), (0, 0, 0)]
    assert (job.turns[0].calls, job.turns[0].children) == (2, 3)
    (open_cell,) = of(*events[:4], state=JobState.RUNNING).cells
    assert (open_cell.sub_calls, open_cell.children, open_cell.running) == (2, 3, True)


def test_calls_issued_ahead_in_vain_are_told() -> None:
    cell = ran(0, calls=3).model_copy(update={"unused_calls": 2})
    (shown,) = of(at(0, started()), at(10, replied(0)), at(30, cell)).cells
    assert shown.unused_calls == 2


@pytest.mark.parametrize("content", [True, False])
def test_tool_calls_belong_to_the_block_that_made_them(content: bool) -> None:
    called = ToolCalled(name="find", call_id="t", seconds=0.5, ok=False, arguments='["x"]', result='"no"')
    events = [at(0, started()), at(10, replied(0)), at(20, called), at(30, ran(0)), at(40, ran(0, 1))]
    cells = of(*events, content=content).cells
    texts = {"arguments": '["x"]', "result": '"no"'} if content else {}
    assert [cell.tools for cell in cells] == [
        (ToolView("find", 0.5, ok=False, from_store=False, **texts),),
        (),
    ]
    (running,) = of(*events[:3], state=JobState.RUNNING).cells
    assert [tool.name for tool in running.tools] == ["find"]
    again = of(*events, at(50, started(2)), *events[1:], content=content).cells
    assert [len(cell.tools) for cell in again] == [1, 0]


def test_the_timeline_has_the_child_jobs_that_have_started() -> None:
    def child(job_id: str, *times: int, state: JobState = JobState.SUCCEEDED) -> ChildRow:
        started_ms, ended_ms = (*(START_MS + time for time in times), None, None)[:2]
        return ChildRow(
            id=job_id, custom_id="c", state=state, depth=1, started_ms=started_ms, ended_ms=ended_ms
        )

    rows = (
        child("late", 700, 900), child("early", 500, 800, state=JobState.FAILED),
        child("runs", 600, state=JobState.RUNNING), child("waits", state=JobState.QUEUED),
    )  # fmt: skip
    job = trajectory(
        record(state=JobState.RUNNING), [], MODELS, now_ms=START_MS + 50_000, content=False, children=rows
    )
    assert [(span.label, span.at_ms, span.ms, span.failed) for span in timeline(job)] == [
        ("child job early: failed", 500, 300, True),
        ("child job runs: running", 600, 49_400, False),
        ("child job late: succeeded", 700, 200, False),
    ]
    assert {(span.kind, span.target) for span in timeline(job)} == {("child", "children")}
