"""What an import, an idle worker and a live job hold."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rlm_dist.bench.machine import memory_mb
from rlm_dist.bench.rig import Rig, endpoint, rig
from rlm_dist.bench.rows import Figure, Group
from rlm_dist.local.child_python import import_variables
from rlm_dist.schema import JobState, Role

_POLL_S = 0.05
_IMPORT = (
    "import sys, time; began = time.perf_counter(); import rlm_dist.client.client; "
    "assert 'openai' not in sys.modules; print(time.perf_counter() - began)"
)


def importing(_: Path, *, rounds: int) -> Iterator[Figure]:
    """The import of the client alone."""
    took = [
        float(subprocess.check_output([sys.executable, "-c", _IMPORT], env=import_variables()))
        for _ in range(rounds)
    ]
    yield Figure(
        group=Group.MEMORY,
        what="import of rlm_dist.client.client",
        value=statistics.median(took),
        unit="s",
        aim="≤ 0.3",
    )


def live_jobs(home: Path, *, jobs: int, context_mb: int) -> Iterator[Figure]:
    """Workers idle; then as many live jobs as the root worker has slots, over one context."""
    with endpoint(1.0) as served, rig(home, served, root_slots=jobs) as cluster:
        sub, root = memory_mb(cluster.pids(Role.SUB)), memory_mb(cluster.pids(Role.ROOT))
        yield Figure(group=Group.MEMORY, what="an idle sub worker", value=sub, unit="MB", aim="≤ 120")
        parts = {"all, with no job": root}
        what = f"a root worker of {jobs} slots, idle: each slot's share"
        yield Figure(group=Group.MEMORY, what=what, value=root / jobs, unit="MB", aim="≤ 120", parts=parts)
        most = _most_mb(cluster, "x" * 1000, jobs)
        what = f"{jobs} live jobs over a small context, all of the root worker: each"
        yield Figure(
            group=Group.MEMORY, what=what, value=most / jobs, unit="MB", aim="≤ 40", parts={"all": most}
        )
        most = _most_mb(cluster, "x" * (context_mb * 1_000_000), jobs)
        what = f"{jobs} live jobs over one context of {context_mb} MB, all of the root worker"
        yield Figure(
            group=Group.MEMORY, what=what, value=most, unit="MB", aim="≤ 1,500 for 50 jobs over 100 MB"
        )


def _most_mb(cluster: Rig, context: str, jobs: int) -> float:
    """The most that the root worker and its REPLs held while these jobs ran."""
    items = [
        {"id": str(number), "query": "How many lines contain 'y'?", "context": context}
        for number in range(jobs)
    ]
    batch = cluster.client.submit_batch(items)
    most = 0.0
    while batch.record().counts[JobState.SUCCEEDED] < jobs:
        most = max(most, memory_mb(cluster.pids(Role.ROOT)))
        time.sleep(_POLL_S)
    return most
