"""What Celery's own tools see and do is true: states of tasks, their ids, revoke, purge."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis
from celery import Celery

from rlm_dist.broker.app import ROOT_QUEUE, SUB_QUEUE, make_app
from rlm_dist.schema import JobRecord, JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import WAIT_S, Bench, open_bench, submit
from tests.support.redis_servers import RedisServer
from tests.support.task_events import TaskEvents, task_events
from tests.support.waiting import wait_until
from tests.support.worker_processes import WorkerProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

SECRET = "xylophone-secret"
LINES = "\n".join(f"Who is number {n}?" for n in range(4))
QUERY = "Label the first 4 lines."


class Suite(NamedTuple):
    """A cluster with one worker of each role, and Celery's tools."""

    bench: Bench
    endpoint: SimulatedEndpoint
    app: Celery
    events: TaskEvents
    redis: redis.Redis
    root: WorkerProcess

    def submit(self, name: str, **options: object) -> str:
        """Submit a job of its own batch; its context, which every prompt of it holds, ends with its name."""
        return submit(self.bench.client, name, f"{LINES} {SECRET} in {name}?", QUERY, **options)

    def record(self, job_id: str) -> JobRecord:
        """The job's present record."""
        return self.bench.client.store.jobs.get(job_id)

    def ended(self, job_id: str) -> JobState:
        """The state in which the job has ended."""
        return self.bench.client.job(job_id).result(WAIT_S).state

    def pid(self) -> int:
        """The id of the root worker's process."""
        replies: dict[str, Any] = self.app.control.inspect(timeout=5).stats() or {}
        return next(int(stats["pid"]) for name, stats in replies.items() if name.startswith("root"))


@pytest.fixture(scope="module")
def suite(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """One worker of each role, with two slots each."""
    with (
        SimulatedEndpoint() as endpoint,
        redis.Redis.from_url(redis_server.url, decode_responses=True) as client,
    ):
        bench = open_bench(redis_server, endpoint.url, tmp_path_factory.mktemp("tools"))
        try:
            root = bench.start(Role.ROOT, concurrency=2)
            bench.start(Role.SUB, concurrency=2)
            bench.wait_ready()
            with make_app(bench.settings) as app, task_events(app) as events:
                yield Suite(bench, endpoint, app, events, client, root)
        finally:
            bench.close()


@pytest.fixture(autouse=True)
def well(suite: Suite) -> Iterator[None]:
    """End each test with an endpoint without faults."""
    yield
    suite.endpoint.release()
    suite.endpoint.faults = ()
    suite.endpoint.hold()


def test_a_task_succeeds_only_if_its_job_has_an_answer(suite: Suite) -> None:
    suite.endpoint.faults = (Fault(kind="status", status=400, role=Role.ROOT, contains="in bad"),)
    good, bad, spent = suite.submit("good"), suite.submit("bad"), suite.submit("spent", max_iterations=1)
    states = [suite.ended(job_id) for job_id in (good, bad, spent)]
    assert states == [JobState.SUCCEEDED, JobState.FAILED, JobState.EXHAUSTED]
    for job_id, last in ((good, "succeeded"), (bad, "failed"), (spent, "failed")):
        wait_until(lambda job_id=job_id: len(suite.events.of(job_id)) == 3)  # type: ignore[misc]
        assert suite.events.types(job_id) == ["received", "started", last]
    assert suite.events.of(bad)[-1]["exception"] == f"NoAnswer({bad!r}, 'failed', 'invalid')"
    assert "limit max_iterations reached: 1 of 1 used" in suite.events.of(spent)[-1]["exception"]
    assert suite.events.of(good)[0]["name"] == "rlm.root good"
    for text in (suite.events.text(), suite.root.text()):
        assert SECRET not in text
        assert "number 2" not in text
    # Each ran once, and nothing is left to be delivered again.
    assert [suite.record(job_id).epoch for job_id in (good, bad, spent)] == [1, 1, 1]
    assert suite.redis.hlen("rlm.unacked.root") == 0


@pytest.mark.parametrize("terminate", [False, True])
def test_to_revoke_a_running_task_cancels_its_job_and_no_other(suite: Suite, terminate: bool) -> None:
    name, other = f"revoked-{terminate}", f"other-{terminate}"
    suite.endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
    jobs = [suite.submit(name), suite.submit(other)]
    wait_until(lambda: all(suite.record(job_id).costs.root_llm_calls for job_id in jobs))
    pid = suite.pid()
    suite.app.control.revoke(jobs[0], terminate=terminate, signal="SIGKILL")
    assert suite.ended(jobs[0]) is JobState.CANCELLED
    wait_until(lambda: suite.events.types(jobs[0])[-1] == "revoked")
    suite.endpoint.release()
    assert suite.ended(jobs[1]) is JobState.SUCCEEDED
    assert suite.record(jobs[1]).epoch == 1
    wait_until(lambda: suite.endpoint.served.in_flight == 0)
    assert suite.pid() == pid
    # Workers remember the revoked id: the job still runs when it is retried, under another one.
    assert suite.bench.client.retry(name) == 1
    assert suite.ended(jobs[0]) is JobState.SUCCEEDED


def test_to_revoke_a_waiting_task_cancels_its_job_at_once(suite: Suite) -> None:
    suite.endpoint.faults = (Fault(kind="hold", role=Role.ROOT),)
    busy = [suite.submit("busy1"), suite.submit("busy2")]
    wait_until(lambda: [suite.record(job_id).state for job_id in busy] == [JobState.RUNNING] * 2)
    waiting, next_one = suite.submit("waiting"), suite.submit("next")
    wait_until(lambda: suite.redis.llen(ROOT_QUEUE) == 2)
    suite.app.control.revoke(waiting)
    assert suite.ended(waiting) is JobState.CANCELLED
    assert suite.redis.llen(ROOT_QUEUE) == 2
    suite.endpoint.release()
    assert [suite.ended(job_id) for job_id in (*busy, next_one)] == [JobState.SUCCEEDED] * 3
    wait_until(lambda: suite.events.types(waiting)[-1:] == ["revoked"])
    assert "started" not in suite.events.types(waiting)


def test_to_revoke_by_a_stamp_cancels_the_jobs_of_a_batch_which_can_be_retried(suite: Suite) -> None:
    suite.endpoint.faults = (Fault(kind="hold", role=Role.ROOT),)
    item = {"query": QUERY, "context": LINES}
    batch = suite.bench.client.submit_batch([{"id": f"q{n}", **item} for n in range(3)], "stamped")
    other = suite.submit("unstamped")
    wait_until(lambda: suite.endpoint.served.in_flight == 2)
    suite.app.control.revoke_by_stamped_headers({"batch": "stamped"}, terminate=True)
    assert [result.state for result in batch.results()] == [JobState.CANCELLED] * 3
    for job in batch.jobs():
        wait_until(lambda job=job: suite.events.types(job.id)[-1:] == ["revoked"])  # type: ignore[misc]
    suite.endpoint.release()
    assert suite.ended(other) is JobState.SUCCEEDED
    assert suite.bench.client.retry("stamped") == 3
    assert [result.state for result in batch.results()] == [JobState.SUCCEEDED] * 3
    single = suite.submit("single")
    suite.app.control.revoke_by_stamped_headers({"job": single})
    assert suite.ended(single) in (JobState.CANCELLED, JobState.SUCCEEDED)  # it may have been faster


@pytest.mark.parametrize("how", ["revoked", "purged"])
def test_the_calls_of_a_lost_sub_task_are_made_all_the_same(suite: Suite, how: str) -> None:
    suite.endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
    lines = "\n".join(f"Who is number {n}?" for n in range(40))
    job_id = submit(suite.bench.client, f"subs-{how}", lines, "Label the first 40 lines.")
    wait_until(lambda: suite.endpoint.served.in_flight == 2 and suite.redis.llen(SUB_QUEUE) >= 5)
    headers = [json.loads(message)["headers"] for message in suite.redis.lrange(SUB_QUEUE, 0, -1)]
    task_ids = {f"{job_id}.{n}" for n in range(1, 11)}
    assert {header["id"] for header in headers} <= task_ids
    assert {(header["parent_id"], header["root_id"]) for header in headers} == {(job_id, job_id)}
    if how == "purged":
        suite.redis.delete(SUB_QUEUE)
    else:
        replies = suite.app.control.revoke(
            list(task_ids), terminate=True, signal="SIGKILL", reply=True, timeout=5
        )
        assert [list(reply) for answer in replies or [] for reply in answer.values()] == [["ok"], ["ok"]]
    suite.endpoint.release()
    result = suite.bench.client.job(job_id).result(WAIT_S)
    assert (result.state, result.costs.sub_llm_calls) == (JobState.SUCCEEDED, 40)
    assert result.costs.duplicate_paid_calls == 0


def test_purged_jobs_come_back_at_every_priority(suite: Suite) -> None:
    suite.endpoint.faults = (Fault(kind="hold", role=Role.ROOT),)
    busy = [suite.submit(f"held{n}") for n in range(2)]
    wait_until(lambda: [suite.record(job_id).state for job_id in busy] == [JobState.RUNNING] * 2)
    purged = [suite.submit(f"purged-{priority}", priority=priority) for priority in ("high", "normal", "low")]
    assert suite.app.control.purge() == 3
    suite.endpoint.release()
    assert [suite.ended(job_id) for job_id in (*busy, *purged)] == [JobState.SUCCEEDED] * 5
    assert all(suite.events.ids(job_id) != {job_id} for job_id in purged)


def test_the_backlog_is_published(suite: Suite) -> None:
    suite.endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
    job_ids = [suite.submit(f"backlog{n}") for n in range(3)]
    expected = {
        "jobs_running": "2", "jobs_waiting": "1", "rlm.root:normal": "1", "calls_waiting": "6",
        "calls_claimed": "2", "calls_in_flight": "2", "root_slots": "2", "sub_slots": "2",
    }  # fmt: skip

    def published() -> bool:
        return expected.items() <= suite.redis.hgetall("rlm:backlog").items()

    wait_until(published)
    suite.endpoint.release()
    assert [suite.ended(job_id) for job_id in job_ids] == [JobState.SUCCEEDED] * 3


def test_a_result_backend_has_the_same_states(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = {"CELERY_RESULT_BACKEND": str(suite.bench.settings.redis_url)}
    monkeypatch.setenv(*next(iter(backend.items())))
    suite.root.terminate()
    suite.endpoint.faults = (
        Fault(kind="status", status=400, role=Role.ROOT, contains="in stored-bad"),
        Fault(kind="hold", role=Role.ROOT, contains="in stored-cut"),
    )
    bench = Bench(
        redis_url=backend["CELERY_RESULT_BACKEND"], api_url=suite.endpoint.url, folder=suite.bench.folder
    )
    suite.bench.start(Role.ROOT, concurrency=2, **backend).wait_ready()
    good, bad, cut = (
        submit(bench.client, name, f"{LINES} {SECRET} in {name}?", QUERY)
        for name in ("stored-good", "stored-bad", "stored-cut")
    )
    assert [suite.ended(job_id) for job_id in (good, bad)] == [JobState.SUCCEEDED, JobState.FAILED]
    bench.client.job(cut).cancel()
    assert suite.ended(cut) is JobState.CANCELLED
    with make_app(bench.settings) as app:
        for job_id, state in ((good, "SUCCESS"), (bad, "FAILURE"), (cut, "REVOKED")):
            wait_until(lambda job_id=job_id, state=state: app.AsyncResult(job_id).state == state)  # type: ignore[misc]
        stored = app.AsyncResult(bad)
        assert SECRET not in f"{stored.result!r} {stored.traceback}"
    bench.client.close()
