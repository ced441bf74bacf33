"""Many jobs, random deaths: of workers at named points or any moment, of Redis, and by poisonous jobs.

A seed decides what happens when; a failed run prints it, and ``RLM_CHAOS_SEED`` repeats it.
"""

import logging
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rlm_dist.client.handles import Batch
from rlm_dist.schema import JobState, Role
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.simulated.server import Latency
from rlm_dist.store.jobs import ALONE_AFTER, MAX_RECOVERIES
from tests.chaos.test_named_points import ROOT_POINTS
from tests.support.bench import Bench, open_bench
from tests.support.deaths import Deaths
from tests.support.invariants import assert_same_as_endpoint
from tests.support.redis_servers import AofServer
from tests.support.waiting import wait_until
from tests.support.worker_processes import WorkerProcess

pytestmark = pytest.mark.acceptance

SUB_CALLS = 6
ROOT_CALLS = 3
SUB_SLOTS = 8
ROOT_SLOTS = 3
QUERY = f"Label the first {SUB_CALLS} lines."
LINES = "\n".join(f"Who is number {n}?" for n in range(SUB_CALLS))


class Plan(NamedTuple):
    """How many jobs a batch has, and how many deaths of each kind happen to it."""

    jobs: int
    deaths: int  # of roots, at named points
    poison: int
    root_kills: int
    sub_kills: int
    redis_kills: int
    wait_s: float


SHORT = Plan(jobs=40, deaths=4, poison=2, root_kills=2, sub_kills=2, redis_kills=1, wait_s=200)
LONG = Plan(jobs=1000, deaths=50, poison=50, root_kills=15, sub_kills=15, redis_kills=20, wait_s=3000)


class Monkey:
    """Kills what a test names; a root worker is started again, as whoever runs it does."""

    def __init__(self, bench: Bench, server: AofServer, deaths: Deaths, rng: random.Random) -> None:
        self._bench = bench
        self._server = server
        self._environment = deaths.environment
        self._rng = rng
        self._roots = [self._start(Role.ROOT) for _ in range(2)]
        self._subs = [self._start(Role.SUB) for _ in range(2)]
        bench.wait_ready()

    def _start(self, role: Role) -> WorkerProcess:
        concurrency = ROOT_SLOTS if role is Role.ROOT else SUB_SLOTS
        worker = self._bench.start(role, concurrency=concurrency, **self._environment)
        return self._bench.keep_alive(worker) if role is Role.ROOT else worker  # these also die at points

    def kill_root_process(self) -> None:
        """Kill the process of a root worker alone: its fork-server and REPLs are to end by themselves."""
        process = self._rng.choice(self._roots).process
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)

    def kill_root_worker(self) -> None:
        """Kill a root worker with all its processes."""
        worker = self._rng.choice(self._roots)
        if worker.process.poll() is None:
            os.killpg(worker.process.pid, signal.SIGKILL)

    def kill_sub_worker(self) -> None:
        """Kill a sub worker."""
        victim = self._subs.pop(self._rng.randrange(len(self._subs)))
        victim.kill()
        self._subs.append(self._start(Role.SUB))

    def kill_redis(self) -> None:
        """Kill the server; it comes back with the data on its disk."""
        self._server.kill()
        self._server.start()


@pytest.fixture
def rng() -> random.Random:
    """Random numbers from a seed that is logged."""
    seed = int(os.environ.get("RLM_CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    logging.getLogger("chaos").warning("RLM_CHAOS_SEED=%d", seed)
    return random.Random(seed)


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    """An endpoint slow enough that deaths happen while calls are in flight."""
    with SimulatedEndpoint(latency=Latency(0.1, sigma=0.5)) as endpoint:
        yield endpoint


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AofServer]:
    """A Redis that loses nothing when killed."""
    (tmp_path / "redis").mkdir()
    server = AofServer(tmp_path / "redis")
    yield server
    server.kill()


@pytest.fixture
def bench(server: AofServer, endpoint: SimulatedEndpoint, tmp_path: Path) -> Iterator[Bench]:
    """A cluster without workers."""
    bench = open_bench(server.server, endpoint.url, tmp_path / "bench")
    yield bench
    bench.close()


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(SHORT, id="short", marks=pytest.mark.timeout(300)),
        pytest.param(LONG, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_random_deaths(
    plan: Plan,
    bench: Bench,
    endpoint: SimulatedEndpoint,
    server: AofServer,
    deaths: Deaths,
    rng: random.Random,
) -> None:
    """Every job ends, with its answer or as poison; nothing is lost, and double payments are counted."""
    items = [{"id": f"n{n}", "query": QUERY, "context": f"{LINES} n{n}"} for n in range(plan.jobs)]
    batch = bench.client.submit_batch(items, "random")
    ids = [job.id for job in batch.jobs()]
    marked = rng.sample(ids, plan.poison + plan.deaths)
    poison = set(marked[: plan.poison])
    for job_id in marked:
        points = ["root.started"] * (MAX_RECOVERIES + 1) if job_id in poison else [rng.choice([*ROOT_POINTS])]
        deaths.plan(job_id, *points)
    monkey = Monkey(bench, server, deaths, rng)
    for ended, act in schedule(plan, monkey, rng):
        wait_for(batch, ended, plan.wait_s)
        act()
    results = list(batch.results())
    assert {result.id for result in results} == set(ids)
    failed = {result.id: result for result in results if result.state is not JobState.SUCCEEDED}
    assert set(failed) == poison
    assert all(result.error and result.error.type == "poison" for result in failed.values())
    answers = Counter(str(result.answer_json) for result in results if result.id not in poison)
    assert answers == {str({"human being": SUB_CALLS}): plan.jobs - plan.poison}
    assert_same_as_endpoint(bench, endpoint, results)
    needed = (plan.jobs - plan.poison) * (ROOT_CALLS + SUB_CALLS)
    # A job has one root call in flight, a sub worker one a slot; a root worker dies with all its jobs, but
    # for one with which it has died before, which has a process of its own.
    root_deaths = plan.deaths + plan.root_kills + ALONE_AFTER * plan.poison
    in_flight = root_deaths * ROOT_SLOTS + plan.sub_kills * SUB_SLOTS
    logging.getLogger("chaos").warning(
        "needed %d calls, served %d, counted as done again %d",
        needed, endpoint.served.answered, batch.cost().duplicate_paid_calls,
    )  # fmt: skip
    assert needed <= endpoint.served.answered <= needed + in_flight
    assert bench.client.store.audits.batch(batch.id, batch.status()).differences == []
    assert any("event=job_runs_alone" in worker.text() for worker in bench.workers)


def schedule(plan: Plan, monkey: Monkey, rng: random.Random) -> list[tuple[int, Callable[[], None]]]:
    """The deaths in order, each with the number of ended jobs at which it happens."""
    acts = [
        *[rng.choice([monkey.kill_root_process, monkey.kill_root_worker]) for _ in range(plan.root_kills)],
        *[monkey.kill_sub_worker] * plan.sub_kills,
        *[monkey.kill_redis] * plan.redis_kills,
    ]
    last = plan.jobs - plan.poison - plan.deaths
    return sorted(((rng.randrange(last), act) for act in acts), key=lambda pair: pair[0])


def wait_for(batch: Batch, ended: int, timeout_s: float) -> None:
    """Wait until this number of jobs of a batch have ended."""

    def enough() -> bool:
        counts = batch.record().counts
        return sum(count for state, count in counts.items() if state.final) >= ended

    wait_until(enough, timeout_s=timeout_s)
