"""What a live job costs while it waits for its model: memory, processes, threads, and the CPU of its turns.

As many jobs as one root worker has slots run at once, each of three turns over a small context. The
endpoint holds their requests: those of the first turn until all jobs have asked, which gives the time to a
job's first request; those of the second until all have asked again, so that each job has a REPL that has run
a turn when the memory is read. A second round of jobs, which nothing holds, gives the CPU of a job. Peers run
as many queries in threads of one process.

Memory counts a page that several processes share once (PSS). What a slot holds before any job is part of a
live job's memory; beside it stands what the job adds.
"""

import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rlm_dist.bench.beside_peers import Peer, is_installed
from rlm_dist.bench.endpoint import reply
from rlm_dist.bench.machine import Census, census, cpu_s
from rlm_dist.bench.peers.at_once import TURNS, query_of
from rlm_dist.bench.rig import Rig, ServedEndpoint, command, environment, rig
from rlm_dist.bench.rows import Figure, Group
from rlm_dist.client.client import Client
from rlm_dist.schema import JobState, Role, Wire
from rlm_dist.simulated import Fault, SimulatedEndpoint

PEERS = (
    Peer("rlms", "rlms", 0, "rlms"),
    Peer("dspy.RLM with LocalInterpreter", "dspy_rlm", 0, "dspy"),
)
_ROOT_WORKER = "rlm_dist, its root worker"
_WHOLE = "rlm_dist, with its sub worker and Redis"
_WAIT_S = 600.0
_POLL_S = 0.005


class Density(Wire):
    """What a system held before and while ``jobs`` queries waited for their model in their second turn.

    ``first_s`` are the seconds after which the first request of each query came, in their order; ``cpu_ms``
    is the CPU of a query of three turns; ``right`` is how many of both rounds, 2 * ``jobs`` in all, were
    answered rightly.
    """

    who: str
    jobs: int
    idle_mb: float
    live_mb: float
    idle_processes: int
    processes: int
    idle_threads: int
    threads: int
    first_s: tuple[float, ...]
    cpu_ms: float
    right: int

    @property
    def added_mb(self) -> float:
        """What one live query adds to the memory of the idle system."""
        return (self.live_mb - self.idle_mb) / self.jobs

    @property
    def each_mb(self) -> float:
        """One live query's share of all that the system holds."""
        return self.live_mb / self.jobs


class System(NamedTuple):
    """A system that is ready: its processes by the name of their row, and how it is asked.

    ``ask(n)`` asks n queries at once, waits for their ends and returns how many answers were right.
    """

    processes: Mapping[str, Sequence[int]]
    ask: Callable[[int], int]


def measure(jobs: int, peers: Sequence[Peer] | None = None) -> Iterator[list[Density]]:
    """Measure this project and then the peers, by default those that are installed; the rows of each."""
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as home:
        yield of_root_worker(Path(home), jobs)
    for peer in [each for each in PEERS if is_installed(each.package)] if peers is None else peers:
        with held_endpoint() as endpoint, _peer(peer, endpoint.url, jobs) as system:
            yield of_system(system, endpoint, jobs)


def of_root_worker(home: Path, jobs: int) -> list[Density]:
    """Measure one root worker of ``jobs`` slots, alone and with the other processes of its cluster."""
    with (
        held_endpoint() as endpoint,
        rig(home, ServedEndpoint(endpoint.url, 0, 0.0), root_slots=jobs) as cluster,
    ):
        _wait_for_slots(cluster.client, jobs)
        roots = cluster.pids(Role.ROOT)
        info: Any = cluster.redis.info("server")
        whole = [*roots, *cluster.pids(Role.SUB), int(info["process_id"])]
        system = System({_ROOT_WORKER: roots, _WHOLE: whole}, partial(_ask, cluster))
        return of_system(system, endpoint, jobs)


def of_system(system: System, endpoint: SimulatedEndpoint, jobs: int) -> list[Density]:
    """Run both rounds: one whose first and second requests ``endpoint`` holds, and one that it does not.

    One query before them lets each system load what it loads late.
    """
    endpoint.release()
    system.ask(1)
    endpoint.hold()
    idle = _counted(system)
    with ThreadPoolExecutor(1) as thread:
        began = time.perf_counter()
        asking = thread.submit(system.ask, jobs)
        try:
            first_s = _wait_for_turn(1, jobs, endpoint, asking, began)
            endpoint.release_waiting()
            _wait_for_turn(2, jobs, endpoint, asking, began)
            live = _counted(system)
        finally:
            endpoint.release()
        right = asking.result()
    before = {who: cpu_s(pids) for who, pids in system.processes.items()}
    right += system.ask(jobs)
    return [
        Density(
            who=who,
            jobs=jobs,
            idle_mb=idle[who].mb,
            live_mb=live[who].mb,
            idle_processes=idle[who].processes,
            processes=live[who].processes,
            idle_threads=idle[who].threads,
            threads=live[who].threads,
            first_s=tuple(first_s),
            cpu_ms=(cpu_s(pids) - before[who]) / jobs * 1e3,
            right=right,
        )
        for who, pids in system.processes.items()
    ]


def figures(home: Path, *, jobs: int) -> Iterator[Figure]:
    """The rows of ``bench speed``."""
    root, _ = of_root_worker(home, jobs)
    parts = {"MB added": root.added_mb, "MB idle": root.idle_mb, "processes": root.processes}
    what = f"{jobs} live jobs of one root worker that wait in their second turn: memory a job"
    yield Figure(group=Group.DENSITY, what=what, value=root.each_mb, unit="MB", aim="≤ 12", parts=parts)
    what = f"root CPU of a job of {TURNS} turns, all told"
    yield Figure(group=Group.DENSITY, what=what, value=root.cpu_ms, unit="ms", aim="≤ 20")


def documents(found: Sequence[Density]) -> list[dict[str, object]]:
    """The measurements as JSON values, with what a job holds."""
    return [{**row.model_dump(), "each_mb": row.each_mb, "added_mb": row.added_mb} for row in found]


def rows(found: Sequence[Density]) -> Iterator[list[str]]:
    """The measurements as cells of a table, their head first."""
    yield [
        "system", "idle", "all live", "a live job", "of it added", "processes", "threads",
        "first request (median, last)", "CPU a job", "right",
    ]  # fmt: skip
    for row in found:
        yield [
            row.who,
            f"{row.idle_mb:,.0f} MB",
            f"{row.live_mb:,.0f} MB",
            f"{row.each_mb:.1f} MB",
            f"{row.added_mb:.1f} MB",
            f"{row.idle_processes} to {row.processes}",
            f"{row.idle_threads} to {row.threads}",
            f"{statistics.median(row.first_s):.2f}, {row.first_s[-1]:.2f} s",
            f"{row.cpu_ms:.1f} ms",
            f"{row.right} of {2 * row.jobs}",
        ]


def held_endpoint() -> SimulatedEndpoint:
    """An endpoint that holds every request until it is released."""
    return SimulatedEndpoint(root=reply, faults=[Fault(kind="hold")])


def _counted(system: System) -> dict[str, Census]:
    return {who: census(pids) for who, pids in system.processes.items()}


def _wait_for_turn(
    turn: int, jobs: int, endpoint: SimulatedEndpoint, asking: "Future[int]", began: float
) -> list[float]:
    """Wait until the endpoint holds this turn's request of every job; the seconds since ``began`` of each.

    One query has had all its turns before.

    Raises:
        RuntimeError: if that does not come about.
    """
    came: list[float] = []
    while True:
        served, seconds = endpoint.served, time.perf_counter() - began
        came += [seconds] * (served.in_flight - len(came))
        if served.in_flight == jobs and served.requests >= TURNS + turn * jobs:
            return came
        if asking.done() or seconds > _WAIT_S:
            if asking.done():
                asking.result()  # raises what has ended it, if anything has
            raise RuntimeError(f"{served.in_flight} of {jobs} jobs wait for an answer in turn {turn}")
        time.sleep(_POLL_S)


def _wait_for_slots(client: Client, jobs: int) -> None:
    """Wait until the root worker has announced all its slots: only then does it hold what it holds idle.

    Raises:
        RuntimeError: if it does not.
    """
    deadline = time.monotonic() + _WAIT_S
    while client.store.backlog.read({}).root_slots < jobs:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the root worker does not have {jobs} slots after {_WAIT_S:.0f} s")
        time.sleep(_POLL_S)


def _ask(cluster: Rig, jobs: int) -> int:
    """Run this number of jobs; return how many answers were right."""
    items = [
        {"id": str(number), "query": query_of(number, "FINAL(result)"), "context": str(random.random())}
        for number in range(jobs)
    ]
    results = [job.result(_WAIT_S) for job in cluster.client.submit_batch(items).jobs()]
    return sum(each.state is JobState.SUCCEEDED and each.answer == str(TURNS) for each in results)


@contextmanager
def _peer(peer: Peer, url: str, jobs: int) -> Iterator[System]:
    """A peer's process that is ready, while the context is open."""
    argv = command(f"peers.{peer.module}", [url, 0, 0, jobs])
    with subprocess.Popen(
        argv, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def ask(queries: int) -> int:
            stdin.write(f"{queries}\n")
            return int(json.loads(stdout.readline())["right"])

        json.loads(stdout.readline())
        try:
            yield System({peer.name: [process.pid]}, ask)
        finally:
            stdin.close()
