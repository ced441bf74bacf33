"""Trajectories for the tests of the viewer: a stored job with turns, blocks and many sub-calls.

``python -m tests.support.trajectories FOLDER`` writes pages of two such jobs, to look at.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlm_dist.operations.viewer.call_rows import CallRow, call_rows
from rlm_dist.operations.viewer.model import Trajectory, trajectory
from rlm_dist.operations.viewer.trace_page import job_html
from rlm_dist.schema import (
    CallFailure,
    CallRequest,
    CallResult,
    Completion,
    ContextInfo,
    ContextRef,
    Costs,
    ErrorInfo,
    JobLimits,
    JobRecord,
    JobSpec,
    JobState,
    Message,
    ModelCosts,
    Outcome,
    Role,
    Usage,
)
from rlm_dist.schema.events import (
    CellRan,
    Event,
    JobStarted,
    Marked,
    MessageAdded,
    RootReplied,
    SubCallsAnswered,
)
from rlm_dist.schema.id_lists import pack_ids
from rlm_dist.store.call_rows import CallStage, PaidCall, StoredCall
from rlm_dist.store.trace import TracedEvent

START_MS = 1_795_000_000_000
INFO = ContextInfo(kind="list", chars=1_234_567, items=412)
HOSTILE = (
    "</script><script>window.ran = 1</script><img src=x onerror='window.ran=1'> & \"quoted\" "
    "\x1b[31mred\x1b[0m \u202egnp.exe\u202c \x00 שלום מהעולם "
)
CODE = """import re  # the lines that matter
parts = [context[i:i + 20] for i in range(0, len(context), 20)]
prompts = [f"Which people are named in this text?\\n{part}" for part in parts]
names = llm_query_batched(prompts)
print(len(names), names[0][:80])"""


def spec(query: str = "Who are the people named in these letters?", **limits: float | None) -> JobSpec:
    return JobSpec(
        id="j4f0c2a91d7e35b6a8c21", custom_id="letters-0042", batch_id="night-3", query=query,
        context=ContextRef(sha256="c0ffee", size_bytes=1, info=INFO),
        model="big-model", sub_model="small-model", limits=JobLimits.model_validate(limits),
    )  # fmt: skip


def record(
    query: str = "Who are the people named in these letters?",
    *,
    answer: str | None = "Anna, Berta and 37 others.",
    state: JobState = JobState.SUCCEEDED,
    error: ErrorInfo | None = None,
    **fields: object,
) -> JobRecord:
    """A job that ran for 95 s."""
    outcome = Outcome(state=state, answer=answer, error=error, iterations=3) if state.final else None
    values = {
        "spec": spec(query, max_nanousd=2 * 10**9, max_sub_calls=20_000, max_seconds=600.0), "state": state,
        "epoch": 1, "owner": "root@here:1", "isolation": "bubblewrap", "outcome": outcome,
        "queued_ms": START_MS - 1500, "started_ms": START_MS, "since_ms": START_MS,
        "ended_ms": START_MS + 95_000 if state.final else None,
        "costs": Costs(
            total_cost=0.4321, root_llm_cost=0.1, sub_llm_cost=0.3321, root_llm_tokens=9000, root_llm_calls=3,
            sub_llm_tokens=800_000, sub_llm_calls=10_000, retries=31, rate_limited=12, failed_calls=10,
        ),
    }  # fmt: skip
    return JobRecord.model_validate({**values, **fields})


MODELS = [
    ModelCosts(
        role=Role.ROOT, model="big-model", calls=3, input_tokens=8000, cached_tokens=5000,
        output_tokens=1000, cost=0.1,
    ),
    ModelCosts(
        role=Role.SUB, model="small-model", tier="flex", calls=9_990, input_tokens=700_000, cached_tokens=0,
        output_tokens=100_000, cost=0.3321,
    ),
]  # fmt: skip


def at(after_ms: int, event: Event) -> TracedEvent:
    return TracedEvent(f"{START_MS + after_ms}-0", START_MS + after_ms, event)


def started(epoch: int = 1, worker: str = "root@here:1") -> JobStarted:
    return JobStarted(
        job_id="j", epoch=epoch, worker=worker, model="big-model", sub_model="small-model", prompts="coder",
        isolation="bubblewrap", context=INFO,
    )  # fmt: skip


def replied(turn: int, *, seconds: float = 3.0, replayed: bool = False) -> RootReplied:
    usage = Usage(input_tokens=2500 + turn, cached_tokens=1800, output_tokens=310)
    return RootReplied(
        turn=turn, model="big-model", usage=usage, finish_reason="stop", seconds=seconds, replayed=replayed
    )


def ran(
    turn: int, block: int = 0, *, calls: int = 0, seconds: float = 1.0, text: str = "",
    replayed: bool = False, error: str | None = None,
) -> CellRan:  # fmt: skip
    return CellRan(
        turn=turn, block=block, code=CODE + text, output=f"206 Anna, Berta{text}\n", error=error,
        seconds=seconds, calls=calls, failed_calls=calls // 1000, state_lost=False, replayed=replayed,
    )  # fmt: skip


def answered(ids: Sequence[str], *, packed: bool = True) -> SubCallsAnswered:
    return SubCallsAnswered(
        first_call_id=ids[0], calls=len(ids), failed=0, from_store=0, seconds=1,
        call_ids=pack_ids(ids) if packed else "",
    )  # fmt: skip


def call_ids(count: int, first: int = 0) -> list[str]:
    return [f"{number:024x}#1" for number in range(first, first + count)]


def say(turn: int, role: str, text: str) -> MessageAdded:
    return MessageAdded.model_validate({"turn": turn, "role": role, "text": text})


def events(count: int, text: str = "") -> list[TracedEvent]:
    """Three turns; the block of the second made ``count`` sub-calls."""
    ids = call_ids(count)
    long_output = ran(2, seconds=0.4).model_copy(update={"output": f"line{text}\n" * 400})
    return [
        at(0, started()),
        at(1, say(0, "system", f"You have a REPL.{text}")),
        at(1, say(0, "user", f"Who are the people?{text}")),
        at(4000, replied(0, seconds=3.6)),
        at(4001, say(0, "assistant", f"I look at the shape of the context first.{text}")),
        at(4400, ran(0, seconds=0.3, text=text)),
        at(4401, say(0, "user", f"Output: 206{text}")),
        at(9000, replied(1, seconds=4.1)),
        at(9001, say(1, "assistant", f"Now each part is read by a sub-call.{text}")),
        *([at(79_900, answered(ids))] if ids else []),
        at(80_000, ran(1, calls=count, seconds=70.9, text=text)),
        at(80_001, Marked(turn=1, kind="root_attempts_failed", detail="rate, rate")),
        at(80_001, Marked(turn=0, kind="parked", detail=f"the quota is spent{text}")),
        at(80_002, say(1, "user", f"Output: 206 Anna, Berta{text}")),
        at(90_000, replied(2, seconds=8.2)),
        at(90_001, say(2, "assistant", f"One name occurs twice, so I look again.{text}")),
        at(91_000, ran(2, seconds=0.2, error=f"Traceback …\nKeyError: 'Anna'{text}")),
        at(92_000, long_output.model_copy(update={"block": 1})),
    ]


def stored_call(number: int, text: str = "", *, of: int = 10_000) -> StoredCall:
    """One of ``of`` calls, spread over four workers and 70 s; each thousandth failed."""
    owner = f"sub@host-{number % 4}:{100 + number % 4}"
    request = CallRequest(
        role=Role.SUB, model="small-model",
        messages=(Message(role="user", content=f"Which people are named in part {number}?{text}"),),
    )  # fmt: skip
    began_ms = START_MS + 9100 + number * 68_000 // of
    waits = {"started_ms": began_ms, "seconds": 0.5 + (number * 37 % 100) / 60, "waited_s": 0.1}
    if number % 1000 == 999:
        failure = CallFailure(kind="timeout", message=f"no complete answer{text}")
        result = CallResult(
            failure=failure, attempts=3, failed_attempts=("rate", "timeout", "timeout"), **waits
        )
    else:
        usage = Usage(
            input_tokens=60 + number % 40, cached_tokens=16, output_tokens=9 + number % 9, tier="flex"
        )
        done = Completion(
            text=f"Anna, Berta {number}{text}", usage=usage, finish_reason="stop", model="small-model"
        )
        result = CallResult(completion=done, **waits)
    return StoredCall(
        call_ids(1, number)[0], CallStage.ENDED, owner, 0, result.model_dump_json(), request.model_dump_json()
    )


def made(count: int, text: str = "", *, content: bool = True, **fields: object) -> Trajectory:
    made_record = record(f"Who are the people named in these letters?{text}", **fields)  # type: ignore[arg-type]
    return trajectory(
        made_record, events(count, text), MODELS, now_ms=START_MS + 95_000, content=content,
        context_text="list of 412 items, 1,234,567 characters",
    )  # fmt: skip


def pages(job: Trajectory, count: int, text: str = "") -> Iterator[list[CallRow]]:
    for start in range(0, count, 200):
        calls = [stored_call(number, text, of=count) for number in range(start, min(count, start + 200))]
        paid = {call.id: PaidCall(33_000, 60, 16, 9) for call in calls}
        yield list(call_rows(job, calls, paid, str))


def write_page(path: Path, count: int, text: str = "", *, content: bool = True) -> Path:
    """The page of a job with ``count`` sub-calls."""
    job = made(count, text, content=content)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(job_html(job, pages(job, count, text)))
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    print(write_page(folder / "small.html", 60), write_page(folder / "large.html", 10_000))  # noqa: T201
