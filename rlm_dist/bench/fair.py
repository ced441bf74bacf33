"""Small jobs beside a huge one: how much longer does each take than without it?

A huge job asks more sub-calls than the sub workers can run in minutes. Small jobs, submitted while
it runs, are to take no more than 1.5 times their time alone, and one call: the slot that they wait for.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rlm_dist.bench.rig import Rig, endpoint, finished, rig
from rlm_dist.bench.rows import percentile
from rlm_dist.schema import Wire

LATENCY_S = 0.5
ROOT_SLOTS, SUB_SLOTS = 4, 32
CALLS = 10
_WAIT_S = 120.0


class Fairness(Wire):
    """The time of small jobs, from start to end, in seconds: alone, and beside the huge one."""

    jobs: int
    huge_calls: int
    alone_s: tuple[float, ...]
    beside_s: tuple[float, ...]

    def slowdown(self, share: float) -> float:
        """How many times longer a job took, one call left out, at this percentile of the jobs."""
        return (percentile(self.beside_s, share) - LATENCY_S) / percentile(self.alone_s, share)


def measure(jobs: int, huge_calls: int) -> Fairness:
    """Run the small jobs twice, the second time beside the huge one."""
    with (
        tempfile.TemporaryDirectory(prefix="rlm-bench-") as home,
        endpoint(LATENCY_S) as served,
        rig(Path(home), served, root_slots=ROOT_SLOTS, slots=SUB_SLOTS) as cluster,
    ):
        _small(cluster, 2 * ROOT_SLOTS)  # each process creates what it keeps
        alone = _small(cluster, jobs)
        huge = cluster.client.submit("Who is it?\n" * huge_calls, f"Label the first {huge_calls} lines.")
        _await_calls(cluster, huge.id)
        beside = _small(cluster, jobs)
        if huge.status().final:
            raise RuntimeError("the huge job ended before the small ones: give it more calls")
        huge.cancel()
    return Fairness(jobs=jobs, huge_calls=huge_calls, alone_s=tuple(alone), beside_s=tuple(beside))


def rows(found: Fairness) -> Sequence[list[str]]:
    """The times as cells of a table, their head first."""
    head = ["small jobs", "alone", "beside the huge one", "times longer, one call left out"]
    shares = {"median": 0.5, "slowest of ten": 0.9, "slowest": 1.0}
    return [
        head,
        *(
            [
                name,
                f"{percentile(found.alone_s, share):.2f} s",
                f"{percentile(found.beside_s, share):.2f} s",
                f"{found.slowdown(share):.2f}",
            ]
            for name, share in shares.items()
        ),
    ]


def _small(cluster: Rig, jobs: int) -> list[float]:
    context = "\n".join(f"Who is {random.random()}?" for _ in range(CALLS))
    query = f"Label the first {CALLS} lines."
    items = [{"id": f"q{number}", "query": query, "context": context} for number in range(jobs)]
    results = [finished(job) for job in cluster.client.submit_batch(items).jobs()]
    return [result.timing.run_s or 0.0 for result in results]


def _await_calls(cluster: Rig, job_id: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while cluster.client.store.jobs.get(job_id).calls_in_flight < SUB_SLOTS:
        if time.monotonic() > deadline:
            raise RuntimeError("the huge job does not fill the slots")
        time.sleep(0.05)
