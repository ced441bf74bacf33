"""Redis dies and comes back, cuts connections, forgets scripts, fills up: jobs wait and go on."""

import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis

from rlm_dist.client.handles import Batch
from rlm_dist.schema import JobState, Result, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.simulated.server import Latency
from tests.support.bench import Bench, open_bench
from tests.support.invariants import assert_same_as_endpoint
from tests.support.key_leaks import leaked_keys
from tests.support.redis_servers import AofServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

JOBS = 16
SUB_CALLS = 6
QUERY = f"Label the first {SUB_CALLS} lines."
LINES = "\n".join(f"Who is number {n}?" for n in range(SUB_CALLS))


class Suite(NamedTuple):
    """The cluster on such a server."""

    bench: Bench
    endpoint: SimulatedEndpoint
    redis: AofServer

    def submit(self, name: str) -> Batch:
        """Submit some jobs, each over its own context."""
        items = [{"id": f"{name}{n}", "query": QUERY, "context": f"{LINES} {name}"} for n in range(JOBS)]
        return self.bench.client.submit_batch(items, name)

    def under_way(self, name: str) -> None:
        """Wait until some jobs of a batch have ended while others run."""
        store = self.bench.client.store

        def counts() -> bool:
            found = store.batches.get(name).counts
            return found[JobState.SUCCEEDED] >= 2 and found[JobState.RUNNING] >= 1

        wait_until(counts, timeout_s=60)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A worker of each role."""
    server = AofServer(tmp_path_factory.mktemp("aof"))
    with SimulatedEndpoint(latency=Latency(0.05)) as endpoint:
        bench = open_bench(server.server, endpoint.url, tmp_path_factory.mktemp("trouble"))
        try:
            bench.start(Role.ROOT, concurrency=3)
            bench.start(Role.SUB, concurrency=8)
            bench.wait_ready()
            yield Suite(bench, endpoint, server)
        finally:
            bench.close()
            server.kill()


_seen: list[Result] = []


def check(suite: Suite, batch: Batch, *, paid_twice: int = 0) -> None:
    """Check that all jobs have the right answer and all ledgers so far add up to what the endpoint served."""
    results = list(batch.results())
    assert [result.error for result in results if result.state is not JobState.SUCCEEDED] == []
    assert all(result.answer_json == {"human being": SUB_CALLS} for result in results)
    _seen.extend(results)
    assert_same_as_endpoint(suite.bench, suite.endpoint, _seen)
    assert sum(result.costs.duplicate_paid_calls for result in results) <= paid_twice
    with suite.redis.client() as client:
        assert leaked_keys(client) == []


def test_redis_is_killed_and_comes_back(suite: Suite) -> None:
    """Killed while everything runs: no job is lost and no call is paid twice."""
    batch = suite.submit("killed")
    suite.under_way(batch.id)
    suite.redis.kill()
    suite.redis.start()
    check(suite, batch)


# No state shows that an outage was longer than a lease, so it has to last in real time.
@pytest.mark.parametrize("away_s", [12, pytest.param(30, marks=pytest.mark.long)])
def test_all_leases_lapse_while_redis_is_away(suite: Suite, away_s: float) -> None:
    """The holders live: their jobs and calls are not taken from them once Redis is back."""
    suite.endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
    batch = suite.submit(f"away{away_s}")
    wait_until(lambda: suite.endpoint.served.in_flight == 8, timeout_s=60)
    requests = suite.endpoint.served.requests
    suite.redis.kill()
    time.sleep(away_s)
    suite.redis.start()
    with suite.redis.client() as client:
        wait_until(lambda: all(not lapsed(state) for state in held_calls(client)))
    assert suite.endpoint.served.requests == requests
    suite.endpoint.release()
    check(suite, batch)
    assert all(
        suite.bench.client.store.jobs.get(result.id).epoch == 1 for result in batch.results()
    )  # no job changed hands


def held_calls(client: Any) -> list[str]:
    """The states of all calls that are or were claimed."""
    keys = client.keys("rlm:job:*:calls")
    states = [state for key in keys for state in client.hvals(key)]
    return [state for state in states if state.startswith("c ") and not state.endswith(" root")]


def lapsed(state: str) -> bool:
    """Whether a claim has lapsed by this machine's clock, which is also the server's."""
    return int(state.split()[1]) < time.time() * 1000


# Celery's own connections only in the long run: now and then a root worker takes no more messages after that.
@pytest.mark.parametrize("all_of_them", [False, pytest.param(True, marks=pytest.mark.long)])
def test_connections_are_cut_and_scripts_forgotten(suite: Suite, all_of_them: bool) -> None:
    """The connections of the store are closed repeatedly while the jobs run."""
    batch = suite.submit(f"cut{all_of_them}")
    suite.under_way(batch.id)
    enough = threading.Event()

    def cut() -> None:
        with suite.redis.client() as client:
            while not enough.wait(0.3):
                for other in client.client_list():
                    if all_of_them or other["name"] in ("rlm-root", "rlm-sub", "rlm-client"):
                        client.client_kill_filter(_id=other["id"], skipme=True)
                client.script_flush()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        wait_until(
            lambda: suite.bench.client.store.batches.get(batch.id).counts[JobState.SUCCEEDED] >= JOBS // 2,
            timeout_s=90,
        )
    finally:
        enough.set()
        cutter.join()
    check(suite, batch)


def test_memory_is_full_for_a_while(suite: Suite) -> None:
    """Writes are refused until there is room again; calls in flight are settled then and not paid again."""
    suite.endpoint.hold()
    suite.endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
    batch = suite.submit("full")
    wait_until(lambda: suite.endpoint.served.in_flight == 8, timeout_s=60)
    with suite.redis.client() as client:
        before = refusals(client)
        client.config_set("maxmemory", 1)
        suite.endpoint.release()
        wait_until(lambda: refusals(client) > before + 50, timeout_s=60)
        client.config_set("maxmemory", 0)
    check(suite, batch)


def refusals(client: redis.Redis) -> int:
    """The number of commands that the server refused for lack of memory."""
    found = client.info("errorstats").get("errorstat_OOM", {"count": 0})
    return int(found["count"])
