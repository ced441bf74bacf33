"""Jobs, calls and settlements for the tests of the store."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from rlm_dist.schema import ContextInfo, ContextRef, JobLimits, JobSpec, Outcome, Role, Usage
from rlm_dist.store import OpenCall, Settlement, Spend, Store, keys
from rlm_dist.store.connection import fenced
from rlm_dist.store.jobs import JobEnd, TakenJob

T = TypeVar("T")

LEASE_MS = 60_000
SHORT_MS = 50
RETENTION_S = 1000


def spec(
    job_id: str = "j", *, sha: str = "c0ffee", batch_id: str | None = None, index: int = 0, **limits: Any
) -> JobSpec:
    """A job over a context that nobody stored."""
    info = ContextInfo(kind="str", chars=1, items=1)
    return JobSpec(
        id=job_id,
        custom_id=job_id,
        batch_id=batch_id,
        index=index,
        query="q",
        context=ContextRef(sha256=sha, size_bytes=1, info=info),
        limits=JobLimits(**limits),
    )


def running_job(store: Store, job_id: str = "j", *, lease_ms: int = LEASE_MS, **fields: Any) -> int:
    """Create and start a job; returns its epoch."""
    store.jobs.create([spec(job_id, **fields)])
    epoch = start_job(store, job_id, "root-1", lease_ms)
    assert epoch is not None
    return epoch


def start_job(store: Store, job_id: str, *args: Any, **options: Any) -> int | None:
    """Take a job up, as ``JobStore.take_up``; returns its new epoch, or what that returns of other jobs."""
    taken = store.jobs.take_up(job_id, *args, **options)
    return taken.record.epoch if isinstance(taken, TakenJob) else taken


def finish_job(store: Store, job_id: str, epoch: int, outcome: Outcome) -> bool:
    """End a job whatever its calls do; False if it had ended already, or another worker holds it."""
    return isinstance(store.jobs.end(job_id, epoch, outcome), JobEnd)


def retry_job(store: Store, job_id: str) -> bool:
    """Queue one job again, as the retry of its batch would; False if it has an answer, or has not ended."""
    return bool(fenced(store.connection.script("job_retry", keys.job_keys(job_id)), job_id))


def opens(*call_ids: str, nanousd: int = 0, tokens: int = 0, role: Role = Role.SUB) -> list[OpenCall]:
    """Calls to open, each with the same reservation."""
    return [OpenCall(name, f"request {name}", tokens, nanousd, role) for name in call_ids]


def settlement(
    call_id: str, *, nanousd: int | None = 1, model: str = "m", role: Role = Role.SUB, cached: int = 0
) -> Settlement:
    """A served call of 10 tokens in and 2 out."""
    usage = Usage(input_tokens=10, cached_tokens=cached, output_tokens=2)
    return Settlement(call_id, role, f"result {call_id}", Spend(model, usage, nanousd))


def at_once(threads: int, work: Callable[[int], T]) -> list[T]:
    """Run ``work(0) … work(threads - 1)``, all starting together."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def counted(results: Sequence[object], wanted: object) -> int:
    """How many results equal ``wanted``."""
    return sum(result == wanted for result in results)
