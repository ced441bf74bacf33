"""A worker dies once at each named point of the journal and settle path, and its job still ends right.

All jobs run at the same time, each with its own models, by which the endpoint counts it separately.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from rlm_dist.root_worker.fan_out import RECHECK_S, UNCLAIMED_MS
from rlm_dist.schema import JobState, Result, Role
from rlm_dist.schema.events import Event
from rlm_dist.schema.leases import LEASE_MS, RENEW_S, SWEEP_S
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import WAIT_S, Bench, job_id_of, open_bench, submit
from tests.support.deaths import Deaths
from tests.support.invariants import assert_ledger, ends, epochs, lost_answers, models_of, served
from tests.support.redis_servers import RedisServer

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

SUB_CALLS = 12
ROOT_CALLS = 3
SUB_SLOTS = 6
LINES = "\n".join(f"Who is number {n}?" for n in range(SUB_CALLS))
QUERY = f"Label the first {SUB_CALLS} lines."

# The scripted root looks at the context (a reply, a cell and a hint in the journal), then fans out, then
# hands in. For each point: root calls paid and lost, calls counted as repeated, and the possible epochs.
ROOT_POINTS = {
    "root.started": (0, 0, [2]),  # before its first event
    "root.opened:2": (0, 1, [1, 2]),  # nobody knows whether the request went out
    "root.answered:2": (1, 1, [1, 2]),
    "root.settled:2": (0, 0, [1, 2]),
    "journal.write:4": (0, 0, [1, 2]),  # the reply that fans out
    "journal.written:4": (0, 1, [1, 2]),  # it goes out with the opening of the next call, as the next two do
    "calls.opened": (0, 0, [1, 2]),
    "calls.sent": (0, 0, [1, 2]),
    "calls.answered": (0, 0, [1, 2]),
    "journal.write:5": (0, 0, [1, 2]),  # the cell that fanned out
    "journal.written:5": (0, 1, [1, 2]),
    "journal.written:6": (0, 1, [1, 2]),  # the hint after it
    "root.finishing": (0, 0, [1, 2]),
    "root.finished": (0, 0, [1]),
}
SUB_POINTS = ("sub.claimed", "sub.answered", "sub.settled")


class Ended(NamedTuple):
    """A job that ended after its worker died at ``point``."""

    name: str
    point: str
    result: Result
    events: list[Event]


class Suite(NamedTuple):
    """The cluster that all jobs run on."""

    bench: Bench
    endpoint: SimulatedEndpoint
    deaths: Deaths

    def ended(self, name: str, point: str, job_id: str) -> Ended:
        """Wait for a job's end."""
        job = self.bench.client.job(job_id)
        return Ended(name, point, job.result(WAIT_S), list(job.events()))


@pytest.fixture(scope="module")
def suite(
    chaos_redis: RedisServer, deaths: Deaths, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suite]:
    """Workers that run jobs with a planned death; one sub worker outlives them all."""
    names = [f"r{n}" for n in range(len(ROOT_POINTS))] + [f"s{n}" for n in range(len(SUB_POINTS))] + ["calm"]
    models = [model for name in names for model in models_of(name).values()]
    with SimulatedEndpoint(models=models) as endpoint:
        bench = open_bench(chaos_redis, endpoint.url, tmp_path_factory.mktemp("points"))
        try:
            for _ in range(4):  # of one job each, so that a death hits its own job alone
                bench.keep_alive(bench.start(Role.ROOT, concurrency=1, **deaths.environment))
            for _ in range(len(SUB_POINTS) + 1):
                bench.start(Role.SUB, concurrency=SUB_SLOTS, **deaths.environment)
            bench.wait_ready()  # before the first death
            yield Suite(bench, endpoint, deaths)
        finally:
            bench.close()


@pytest.fixture(scope="module")
def after_root_deaths(suite: Suite) -> dict[str, Ended]:
    """One job for each point of a root worker, and one without a death."""
    points = {f"r{n}": point for n, point in enumerate(ROOT_POINTS)}
    ids = {name: _submitted(suite, name, point) for name, point in points.items()}
    ids["calm"] = submit(suite.bench.client, "calm", LINES, QUERY, **models_of("calm"))
    return {
        points.get(name, ""): suite.ended(name, points.get(name, ""), job_id) for name, job_id in ids.items()
    }


@pytest.fixture(scope="module")
def after_sub_deaths(suite: Suite, after_root_deaths: dict[str, Ended]) -> dict[str, Ended]:
    """One job for each point of a sub worker; each death also takes calls of the other jobs."""
    points = {f"s{n}": point for n, point in enumerate(SUB_POINTS)}
    ids = {name: _submitted(suite, name, point) for name, point in points.items()}
    return {points[name]: suite.ended(name, points[name], job_id) for name, job_id in ids.items()}


def _submitted(suite: Suite, name: str, point: str) -> str:
    job_id = job_id_of(name)
    suite.deaths.plan(job_id, point)
    assert submit(suite.bench.client, name, LINES, QUERY, **models_of(name)) == job_id
    return job_id


def test_a_job_that_nothing_happens_to(suite: Suite, after_root_deaths: dict[str, Ended]) -> None:
    """The baseline for the other jobs."""
    calm = after_root_deaths[""]
    assert calm.result.answer_json == {"human being": SUB_CALLS}
    assert (calm.result.costs.root_llm_calls, calm.result.costs.sub_llm_calls) == (ROOT_CALLS, SUB_CALLS)
    assert calm.result.costs.duplicate_paid_calls == 0
    assert_ledger(suite.endpoint, "calm", calm.result)


@pytest.mark.parametrize("point", ROOT_POINTS)
def test_a_root_worker_dies(suite: Suite, after_root_deaths: dict[str, Ended], point: str) -> None:
    """The job continues where its journal ends, and only the call on the wire may be paid for again."""
    lost, counted, takers = ROOT_POINTS[point]
    name, _, result, events = after_root_deaths[point]
    calm = after_root_deaths[""].result
    assert not suite.deaths.outstanding(result.id)
    assert result.state is JobState.SUCCEEDED
    assert (result.answer, result.iterations) == (calm.answer, calm.iterations)
    assert epochs(events) == takers
    assert served(suite.endpoint, models_of(name)["sub_model"]) == SUB_CALLS
    assert served(suite.endpoint, models_of(name)["model"]) == ROOT_CALLS + lost
    assert lost_answers(suite.endpoint, name, result.costs) == (lost, 0)
    assert result.costs.duplicate_paid_calls == counted
    assert_ledger(suite.endpoint, name, result)


@pytest.mark.parametrize("point", SUB_POINTS)
def test_a_sub_worker_dies(suite: Suite, after_sub_deaths: dict[str, Ended], point: str) -> None:
    """Other workers repeat its calls; a call that was on the wire may be paid twice, and is counted."""
    name, _, result, events = after_sub_deaths[point]
    assert not suite.deaths.outstanding(result.id)
    assert result.state is JobState.SUCCEEDED
    assert result.answer_json == {"human being": SUB_CALLS}
    assert epochs(events) == [1]
    assert ends(events) == 1
    assert result.costs.sub_llm_calls == SUB_CALLS
    assert served(suite.endpoint, models_of(name)["sub_model"]) <= SUB_CALLS + len(SUB_POINTS) * SUB_SLOTS
    assert_ledger(suite.endpoint, name, result)


def test_what_died_with_sub_workers_is_counted(after_sub_deaths: dict[str, Ended]) -> None:
    """If a worker dies while it holds a claim, the ledger of that call's job shows it."""
    counted = {point: ended.result.costs.duplicate_paid_calls for point, ended in after_sub_deaths.items()}
    assert counted["sub.claimed"] >= 1
    assert counted["sub.answered"] >= 1
    assert sum(counted.values()) <= len(SUB_POINTS) * SUB_SLOTS


def test_every_ledger_is_the_sum_of_its_charges(suite: Suite, after_sub_deaths: dict[str, Ended]) -> None:
    """This holds even if calls were repeated or their worker died between two of them."""
    store = suite.bench.client.store
    for batch in store.batches.newest(100):
        assert store.audits.batch(batch.id, batch.state).differences == []


def test_a_job_goes_on_within_fifteen_seconds() -> None:
    """By arithmetic: a lease lapses LEASE_MS after its last renewal and is looked for every SWEEP_S."""
    assert LEASE_MS / 1000 + SWEEP_S < 15
    assert LEASE_MS / 1000 + RECHECK_S < 15  # a claimed call
    assert UNCLAIMED_MS / 1000 + RECHECK_S < 15  # a call whose message was lost with the worker
    assert 3 * RENEW_S < LEASE_MS / 1000
