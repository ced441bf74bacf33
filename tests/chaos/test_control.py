"""Stop, pause, retry, budgets, and two holders of one job, on a cluster with two workers of each role."""

import os
import re
import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest
import redis

from rlm_dist.broker.app import SUB_QUEUE, make_app
from rlm_dist.broker.publish import send_root
from rlm_dist.client.handles import Batch
from rlm_dist.schema import BatchState, JobRecord, JobState, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint, scripts
from tests.support.bench import WAIT_S, Bench, open_bench, submit
from tests.support.invariants import assert_ledger, ends, epochs, models_of, served
from tests.support.redis_servers import RedisServer
from tests.support.waiting import wait_until
from tests.support.worker_processes import WorkerProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

SUB_CALLS = 12
ROOT_CALLS = 3
SLOTS = 4
LINES = "\n".join(f"Who is number {n}?" for n in range(SUB_CALLS))
QUERY = f"Label the first {SUB_CALLS} lines."
ALL_LABELLED = {"human being": SUB_CALLS}
NAMES = (
    "paused",
    "stopped",
    "called",
    "twice",
    "calls",
    "tokens",
    "shared",
    "good",
    "bad",
    "cut",
    "priced",
    *("room-for-calls", "room-for-tokens", "late"),
)

THREADS = """\
from concurrent.futures import ThreadPoolExecutor
def ask(n):
    return str(llm_query("Label it.\\nLine: Who is " + str(n) + "?"))
with ThreadPoolExecutor({calls}) as pool:
    FINAL(len(list(pool.map(ask, range({calls})))))
"""


def root(messages: Sequence[Message]) -> str:
    """Act as the scripted root, or make N calls at once from threads if the query asks for that."""
    if found := re.search(r"Ask (\d+) from threads", scripts.query_text(messages)):
        return f"Now.\n\n```repl\n{THREADS.format(calls=found[1])}```"
    return scripts.reply(messages)


class Suite(NamedTuple):
    """The cluster and a client of its Redis."""

    bench: Bench
    endpoint: SimulatedEndpoint
    roots: list[WorkerProcess]
    redis: redis.Redis

    def submit(self, name: str, query: str = QUERY, **options: object) -> str:
        """Submit a job that the endpoint counts separately; the context ends with the job's name."""
        context = f"{LINES} in {name}?"
        return submit(self.bench.client, name, context, query, **models_of(name), **options)

    def record(self, job_id: str) -> JobRecord:
        """The job's current record."""
        return self.bench.client.store.jobs.get(job_id)


@pytest.fixture(scope="module")
def suite(chaos_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Two workers of each role."""
    models = [model for name in NAMES for model in models_of(name).values()]
    with (
        SimulatedEndpoint(root=root, models=models) as endpoint,
        redis.Redis.from_url(chaos_redis.url, decode_responses=True) as client,
    ):
        bench = open_bench(chaos_redis, endpoint.url, tmp_path_factory.mktemp("control"))
        try:
            roots = [bench.start(Role.ROOT, concurrency=2) for _ in range(2)]
            for _ in range(2):
                bench.start(Role.SUB, concurrency=SLOTS)
            bench.wait_ready()
            yield Suite(bench, endpoint, roots, client)
        finally:
            bench.close()


@pytest.fixture(autouse=True)
def well(suite: Suite) -> Iterator[None]:
    """Start and end each test with an endpoint without faults."""
    suite.endpoint.faults = ()
    suite.endpoint.hold()
    yield
    suite.endpoint.release()
    suite.endpoint.faults = ()


def holder(record: JobRecord) -> int:
    """The process id of the job's holder, taken from the end of its owner's name."""
    assert record.owner is not None
    return int(record.owner.rpartition(":")[2])


def test_a_paused_batch_starts_no_call_and_goes_on_when_resumed(suite: Suite) -> None:
    """Calls in flight end, the others wait, the job leaves its worker; then each call is made once."""
    suite.endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
    job_id = suite.submit("paused")
    wait_until(lambda: suite.endpoint.served.in_flight == 2 * SLOTS)
    store = suite.bench.client.store
    store.batches.pause("paused")
    wait_until(lambda: suite.record(job_id).state is JobState.QUEUED)
    suite.endpoint.release()
    wait_until(lambda: suite.endpoint.served.in_flight == 0 and not suite.redis.llen(SUB_QUEUE))
    assert store.batches.get("paused").state is BatchState.PAUSED
    assert served(suite.endpoint, "sub-paused") == 2 * SLOTS
    store.batches.resume("paused")
    result = suite.bench.client.job(job_id).result(WAIT_S)
    assert result.answer_json == ALL_LABELLED
    assert served(suite.endpoint, "sub-paused") == SUB_CALLS
    assert served(suite.endpoint, "root-paused") == ROOT_CALLS
    assert result.costs.duplicate_paid_calls == 0
    assert_ledger(suite.endpoint, "paused", result)


def test_one_answer_and_one_ledger_where_two_hold_a_job(suite: Suite) -> None:
    """A root worker hangs past its lease and another ends the job; the first then writes nothing."""
    suite.endpoint.faults = (Fault(kind="hold", role=Role.ROOT, contains="sub-calls"),)
    job_id = suite.submit("twice")
    app = make_app(suite.bench.settings)
    send_root(app, *[suite.record(job_id).spec] * 3)
    wait_until(lambda: suite.endpoint.served.in_flight == 1)  # the root's last call
    first = suite.record(job_id)
    os.kill(holder(first), signal.SIGSTOP)
    try:
        send_root(app, *[suite.record(job_id).spec] * 2)
        wait_until(lambda: suite.record(job_id).epoch == 2, timeout_s=40)
        wait_until(lambda: suite.endpoint.served.in_flight == 2)
        suite.endpoint.release()
        job = suite.bench.client.job(job_id)
        assert job.result(WAIT_S).answer_json == ALL_LABELLED
        # Both answers are out; the first holder reads its own when it runs again.
        wait_until(lambda: suite.endpoint.served.in_flight == 0)
    finally:
        os.kill(holder(first), signal.SIGCONT)
    # The first holder's answer was paid for too: it is settled and counted as paid twice.
    wait_until(lambda: job.cost().root_llm_calls == served(suite.endpoint, "root-twice"))
    events = list(job.events())
    assert (epochs(events), ends(events)) == ([1, 2], 1)
    result = job.result()
    assert result.costs.duplicate_paid_calls == 1
    assert result.costs.root_llm_calls == ROOT_CALLS + 1
    assert served(suite.endpoint, "sub-twice") == SUB_CALLS
    assert_ledger(suite.endpoint, "twice", result)


def test_racing_calls_hold_a_budget_of_calls(suite: Suite) -> None:
    """Of 200 calls at once, a budget of 50 lets 50 through, and the job ends as exhausted."""
    job_id = suite.submit("calls", "Ask 200 from threads.", max_sub_calls=50)
    result = suite.bench.client.job(job_id).result(WAIT_S)
    assert result.state is JobState.EXHAUSTED
    assert result.error is not None
    assert result.error.message == "limit max_sub_calls reached: 50 of 50 used"
    wait_until(
        lambda: suite.bench.client.job(job_id).cost().sub_llm_calls == served(suite.endpoint, "sub-calls")
    )
    assert served(suite.endpoint, "sub-calls") <= 50


def test_racing_calls_hold_a_budget_of_tokens(suite: Suite) -> None:
    """Tokens are reserved before a call: 200 calls at once never exceed the limit."""
    limit = 20_000
    job_id = suite.submit("tokens", "Ask 200 from threads.", max_tokens=limit)
    result = suite.bench.client.job(job_id).result(WAIT_S)
    assert result.state is JobState.EXHAUSTED
    assert result.error is not None
    assert "max_tokens" in result.error.message
    wait_until(
        lambda: suite.bench.client.job(job_id).cost().sub_llm_calls == served(suite.endpoint, "sub-tokens")
    )
    costs = suite.bench.client.job(job_id).cost()
    assert 0 < costs.root_llm_tokens + costs.sub_llm_tokens <= limit


@pytest.mark.parametrize(
    ("name", "limits"),
    [("room-for-calls", {"max_sub_calls": 5}), ("room-for-tokens", {"max_tokens": 14_000})],
)
def test_a_job_at_its_limit_answers_from_what_it_has(suite: Suite, name: str, limits: dict[str, int]) -> None:
    """Calls that do not fit fail in their places, a note says so, and room is left for the answer."""
    job_id = suite.submit(name, "Make 200 sub-calls.", **limits)
    result = suite.bench.client.job(job_id).result(WAIT_S)
    assert (result.state, result.limits_reached) == (JobState.SUCCEEDED, tuple(limits))
    made = served(suite.endpoint, f"sub-{name}")
    assert 0 < made < 200
    assert result.answer_json == {"human being": made}
    assert (result.costs.sub_llm_calls, result.costs.pending_calls, result.costs.failed_calls) == (made, 0, 0)
    assert result.costs.root_llm_tokens + result.costs.sub_llm_tokens <= limits.get("max_tokens", 10**9)
    assert suite.bench.client.store.audits.job(job_id).differences == []


def test_costs_are_final_once_the_calls_of_an_ended_job_have_ended(suite: Suite) -> None:
    """Until then they say how many calls they lack; calls that had not begun are never made."""
    suite.endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
    job = suite.bench.client.job(suite.submit("late", max_seconds=2))
    result = job.result(WAIT_S)
    assert (result.state, result.limits_reached) == (JobState.EXHAUSTED, ("max_seconds",))
    assert result.costs.pending_calls == suite.endpoint.served.in_flight == 2 * SLOTS
    suite.endpoint.release()
    wait_until(lambda: job.cost().pending_calls == 0)
    assert job.cost().sub_llm_calls == served(suite.endpoint, "sub-late") == 2 * SLOTS
    assert suite.bench.client.store.audits.job(job.id).differences == []


def test_racing_jobs_hold_the_budget_of_their_batch(suite: Suite) -> None:
    """200 calls of four jobs at once never exceed it; with a larger budget, a retry completes the jobs."""
    limit = 20_000
    client = suite.bench.client
    items = [
        {"id": f"n{n}", "query": "Ask 50 from threads.", "context": f"text {n}", **models_of("shared")}
        for n in range(4)
    ]

    def answered() -> int:
        # Counted by its own models: calls of another test's exhausted job may still be on the wire.
        return served(suite.endpoint, "root-shared") + served(suite.endpoint, "sub-shared")

    batch = client.submit_batch(items, "shared", batch_max_tokens=limit)
    said = re.compile(rf"limit batch_max_tokens reached: [\d,]+ of {limit:,} used or reserved, and .+")
    for result in batch.results():
        assert result.state is JobState.EXHAUSTED
        assert result.error is not None
        assert said.fullmatch(result.error.message)
    wait_until(lambda: paid_calls(batch) == answered())
    costs = batch.cost()
    assert 0 < costs.root_llm_tokens + costs.sub_llm_tokens <= limit
    assert client.retry("shared", batch_max_tokens=100 * limit) == 4
    assert [result.answer_json for result in batch.results()] == [50] * 4
    wait_until(lambda: paid_calls(batch) == answered())
    assert client.store.audits.batch("shared", batch.status()).differences == []


def paid_calls(batch: Batch) -> int:
    """The number of calls in a batch's ledger."""
    costs = batch.cost()
    return costs.root_llm_calls + costs.sub_llm_calls


def test_no_call_of_unknown_price_is_made_on_a_budget_of_money(suite: Suite) -> None:
    """The job fails before it costs anything, and the error says what to do."""
    result = suite.bench.client.job(suite.submit("priced", max_usd=5)).result(WAIT_S)
    assert (result.state, served(suite.endpoint, "root-priced")) == (JobState.FAILED, 0)
    assert result.error is not None
    assert result.error.type == "UnknownPrice"
    assert "'root-priced'" in result.error.message
    assert "RLM_PRICES" in result.error.message


def test_retry_runs_again_what_has_no_answer(suite: Suite) -> None:
    """A failed and a cancelled job run again; what was already paid for is not paid again."""
    suite.endpoint.faults = (
        Fault(kind="status", status=400, role=Role.ROOT, contains="in bad"),
        Fault(kind="hold", role=Role.ROOT, contains="in cut"),
    )
    client = suite.bench.client
    items = [
        {"id": name, "query": QUERY, "context": f"{LINES} in {name}?", **models_of(name)}
        for name in ("good", "bad", "cut")
    ]
    batch = client.submit_batch(items, "again")
    ids = [job.id for job in batch.jobs()]
    wait_until(lambda: [suite.record(id_).state for id_ in ids[:2]] == [JobState.SUCCEEDED, JobState.FAILED])
    wait_until(lambda: suite.endpoint.served.in_flight == 1)
    batch.cancel()
    wait_until(lambda: suite.record(ids[2]).state is JobState.CANCELLED)
    suite.endpoint.faults = ()
    calls = suite.endpoint.served.answered
    assert client.retry("again") == 2
    results = {result.custom_id: result for result in batch.results()}
    assert [results[name].state for name in ("good", "bad", "cut")] == [JobState.SUCCEEDED] * 3
    assert [suite.record(id_).epoch for id_ in ids] == [1, 2, 2]
    for name, result in results.items():
        assert served(suite.endpoint, f"sub-{name}") == SUB_CALLS
        assert_ledger(suite.endpoint, name, result)
    assert suite.endpoint.served.answered > calls
    assert client.retry("again") == 0
    assert batch.status() is BatchState.COMPLETED


def test_a_root_worker_that_is_stopped_hands_its_jobs_over(suite: Suite) -> None:
    """SIGTERM parks a job that waits for sub-calls and one whose root call then ends; none is paid again."""
    suite.endpoint.faults = (
        Fault(kind="hold", role=Role.SUB, contains="Line 3:"),
        Fault(kind="hold", role=Role.ROOT, contains="in called"),
    )
    stopped, idle = suite.roots
    idle.terminate()
    waiting = suite.submit("stopped")
    calling = suite.submit("called")
    wait_until(lambda: suite.endpoint.served.in_flight == 2)
    assert served(suite.endpoint, "root-called") == 1  # its second call is held
    suite.bench.start(Role.ROOT, concurrency=2).wait_ready()
    stopped.process.send_signal(signal.SIGTERM)
    wait_until(lambda: suite.record(waiting).epoch == 2)
    suite.endpoint.release()
    assert stopped.process.wait(60) == 0
    for name, job_id in (("stopped", waiting), ("called", calling)):
        result = suite.bench.client.job(job_id).result(WAIT_S)
        assert result.answer_json == ALL_LABELLED
        assert result.costs.duplicate_paid_calls == 0
        assert served(suite.endpoint, f"root-{name}") == ROOT_CALLS
        assert served(suite.endpoint, f"sub-{name}") == SUB_CALLS
        assert_ledger(suite.endpoint, name, result)
    assert suite.record(waiting).epoch == 2
