"""One sub worker with thousands of slots: the time beside the ideal, and the memory of a call that waits."""

import threading
from collections.abc import Iterator
from pathlib import Path

from rlm_dist.bench.fan_out import Measured, fan_out, fan_outs
from rlm_dist.bench.machine import memory_mb
from rlm_dist.bench.rig import Rig, endpoint, rig
from rlm_dist.bench.rows import Figure, Group
from rlm_dist.schema import Role

_POLL_S = 0.25
_SLOTS_A_JOB = 2048  # one batch of a REPL has 4,096 prompts under way at most
_SMALL = 64  # calls that load what is loaded with the first call


def wide_worker(home: Path, *, slots: int, latency_s: float, aim: str) -> Iterator[Figure]:
    """Twice as many calls as slots, two times: the limits are learnt in the first and known in the second."""
    calls = 2 * slots
    jobs = max(1, slots // _SLOTS_A_JOB)
    with endpoint(latency_s) as served, rig(home, served, root_slots=jobs, slots=slots) as cluster:
        fan_out(cluster, _SMALL)
        idle_mb = memory_mb(cluster.pids(Role.SUB))
        first, first_mb = _watched(cluster, calls, jobs)
        second, second_mb = _watched(cluster, calls, jobs)
    ideal_s = 2 * latency_s
    what = f"a sub worker of {slots:,} slots, {calls:,} calls of {latency_s:g} s"
    yield Figure(
        group=Group.WIDTH,
        what=f"{what}: makespan ÷ ideal",
        value=second.seconds / ideal_s,
        aim=aim,
        parts={
            "seconds": second.seconds,
            "ideal": ideal_s,
            "limits not yet known ÷ ideal": first.seconds / ideal_s,
            "CPU s of root + sub + Redis": second.used.ours_s,
            "of the endpoint": second.used.endpoint_s,
        },
    )
    most_mb = max(first_mb, second_mb)
    yield Figure(
        group=Group.WIDTH,
        what=f"{what}: memory of a call in flight",
        value=(most_mb - idle_mb) * 1000 / slots,
        unit="KB",
        aim="≤ 20",
        parts={"idle MB": idle_mb, "most MB": most_mb},
    )


def _watched(cluster: Rig, calls: int, jobs: int) -> tuple[Measured, float]:
    """The fan-outs, and the most MB that the sub worker held meanwhile."""
    most, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(_POLL_S):
            most[0] = max(most[0], memory_mb(cluster.pids(Role.SUB)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = fan_outs(cluster, calls, jobs=jobs)
    finally:
        over.set()
        watcher.join()
    return done, most[0]
