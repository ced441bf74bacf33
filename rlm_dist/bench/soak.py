"""A long batch over an endpoint with faults: does it finish, how fast, and do memory and ledger hold?

Each job has three root turns and twenty sub-calls. Answers take a lognormal time, and two in a hundred
requests fail with a 500. No batch can be done in less than the lower bound: the time of all answers of a
role, divided by how many calls of that role the workers may have in flight.

A first batch of ``EARLY`` jobs runs to its end before the others, so that the memory after it and after the
last job are those of the same state: no job is live, and every process has run some.
"""

import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import redis

from rlm_dist.bench.machine import memory_mb
from rlm_dist.bench.rig import settings_of
from rlm_dist.client.client import Client
from rlm_dist.local.cluster import workers
from rlm_dist.local.processes import Cluster
from rlm_dist.local.redis.server import server
from rlm_dist.schema import BatchRecord, BatchState, JobState, Role, Wire
from rlm_dist.settings import Settings
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.simulated.server import Latency

CALLS = 20
EARLY = 100
ROOT_SLOTS, SUB_SLOTS = 24, 64
LATENCY = Latency(median_s=0.2, sigma=0.6)
FAULTS = (Fault(kind="status", status=500, probability=0.02),)
_LOOK_S = 0.5


class Memory(Wire):
    """What a worker, with all its processes, held at the start, after ``EARLY`` jobs and after all jobs."""

    worker: str
    start_mb: float
    early_mb: float
    end_mb: float

    @property
    def growth(self) -> float:
        """The memory after all jobs by that after the early ones."""
        return self.end_mb / self.early_mb


class Soak(Wire):
    """The outcome; the ledger and the endpoint count calls and tokens independently."""

    jobs: int
    succeeded: int
    makespan_s: float
    bound_s: float
    failed_requests: int
    ledger_calls: int
    endpoint_calls: int
    ledger_tokens: int
    endpoint_tokens: int
    paid_twice: int
    memory: tuple[Memory, ...]
    redis_peak_mb: float

    @property
    def ledger_agrees(self) -> bool:
        """Whether the ledger agrees with the endpoint."""
        return (self.ledger_calls, self.ledger_tokens) == (self.endpoint_calls, self.endpoint_tokens)


def measure(jobs: int) -> Soak:
    """Run a batch of ``jobs`` jobs on a separate cluster, and count."""
    with ExitStack() as held:
        endpoint = held.enter_context(SimulatedEndpoint(latency=LATENCY, faults=FAULTS))
        home = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        redis_url = held.enter_context(server(home))
        settings = settings_of(home, endpoint.url, redis_url, root_slots=ROOT_SLOTS, slots=SUB_SLOTS)
        cluster = held.enter_context(workers(settings, roots=1, subs=1))
        client = held.enter_context(Client(settings))
        start = _held_mb(cluster)
        began = time.perf_counter()
        early = _run(client, range(min(EARLY, jobs)))
        early_mb = _held_mb(cluster)
        batches = [early, _run(client, range(EARLY, jobs))] if jobs > EARLY else [early]
        makespan_s = time.perf_counter() - began
        costs = [batch.costs for batch in batches]
        return Soak(
            jobs=jobs,
            succeeded=sum(batch.counts[JobState.SUCCEEDED] for batch in batches),
            makespan_s=makespan_s,
            bound_s=_bound_s(endpoint),
            failed_requests=sum(endpoint.served.faults.values()),
            ledger_calls=sum(cost.root_llm_calls + cost.sub_llm_calls for cost in costs),
            endpoint_calls=endpoint.served.answered,
            ledger_tokens=sum(cost.root_llm_tokens + cost.sub_llm_tokens for cost in costs),
            endpoint_tokens=endpoint.served.usage.input_tokens + endpoint.served.usage.output_tokens,
            paid_twice=sum(cost.duplicate_paid_calls for cost in costs),
            memory=tuple(
                Memory(worker=name, start_mb=start[name], early_mb=early_mb[name], end_mb=end)
                for name, end in _held_mb(cluster).items()
            ),
            redis_peak_mb=_redis_peak_mb(settings),
        )


def rows(soak: Soak) -> list[list[str]]:
    """The outcome as cells of a table, its head first."""
    return [
        ["what", "measured", "beside"],
        ["jobs that succeeded", f"{soak.succeeded:,}", f"{soak.jobs:,} submitted"],
        ["makespan", f"{soak.makespan_s:.0f} s", f"{soak.bound_s:.0f} s lower bound"],
        ["requests that failed", f"{soak.failed_requests:,}", "tried again"],
        [
            "calls in the ledger",
            f"{soak.ledger_calls:,}",
            f"{soak.endpoint_calls:,} answered by the endpoint",
        ],
        [
            "tokens in the ledger",
            f"{soak.ledger_tokens:,}",
            f"{soak.endpoint_tokens:,} by the endpoint's count",
        ],
        ["Redis at its peak", f"{soak.redis_peak_mb:.0f} MB", ""],
        *(
            [
                f"worker {each.worker} at the end",
                f"{each.end_mb:.0f} MB",
                f"{each.growth:.2f} times {each.early_mb:.0f} MB after {min(EARLY, soak.jobs)} jobs "
                f"({each.start_mb:.0f} MB before the first)",
            ]
            for each in soak.memory
        ),
    ]


def _held_mb(cluster: Cluster) -> dict[str, float]:
    """What each worker holds, by name, while no job is live."""
    return {name: memory_mb([pid]) for name, pid in cluster.pids().items()}


def _run(client: Client, numbers: Iterable[int]) -> BatchRecord:
    """Run a batch of the jobs with these numbers."""
    context = "\n".join(f"Who is number {number}?" for number in range(CALLS))
    query = f"Label the first {CALLS} lines."
    items = ({"id": f"q{number}", "query": query, "context": f"{number}\n{context}"} for number in numbers)
    batch = client.submit_batch(items)
    while (record := batch.record()).state is not BatchState.COMPLETED:
        time.sleep(_LOOK_S)
    return record


def _bound_s(endpoint: SimulatedEndpoint) -> float:
    slots = {Role.ROOT: ROOT_SLOTS, Role.SUB: SUB_SLOTS}
    came = endpoint.served.by_role
    return max(sum(map(LATENCY.draw_s, range(came.get(role, 0)))) / most for role, most in slots.items())


def _redis_peak_mb(settings: Settings) -> float:
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url) as client:
        return float(client.info("memory")["used_memory_peak"]) / 1e6
