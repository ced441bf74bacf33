"""The backlog: plain numbers of real queues and of the state of jobs, read and published."""

import celery
import pytest
import redis

from rlm_dist.broker.app import make_app, message_lists
from rlm_dist.broker.publish import SubTasks, send_root, send_sub
from rlm_dist.schema import Role
from rlm_dist.schema.backlog import Backlog, DepthLoad
from rlm_dist.settings import Settings
from rlm_dist.store import Store
from tests.support.store_values import LEASE_MS, SHORT_MS, opens, running_job, settlement, spec, start_job
from tests.support.waiting import wait_until

LISTS = message_lists("")
NOTHING = Backlog(
    jobs_waiting=0, jobs_paused=0, jobs_running=0, calls_waiting=0, calls_claimed=0, calls_in_flight=0,
    root_slots=0, sub_slots=0, messages=dict.fromkeys(LISTS, 0), depths=(DepthLoad(),),
)  # fmt: skip


def test_an_empty_store_has_no_backlog(store: Store) -> None:
    assert store.backlog.read(LISTS) == NOTHING


def test_jobs_are_waiting_paused_or_running(store: Store) -> None:
    store.batches.create("b", "digest", 1)
    running_job(store, "j1")
    store.jobs.create([spec("j2"), spec("j3"), spec("j4", batch_id="b")])
    store.batches.pause("b")
    assert start_job(store, "j4", "root-1", LEASE_MS) is None  # a worker takes its message, and puts it aside
    found = store.backlog.read(LISTS)
    assert (found.jobs_running, found.jobs_waiting, found.jobs_paused) == (1, 2, 1)
    store.batches.resume("b")
    found = store.backlog.read(LISTS)
    assert (found.jobs_waiting, found.jobs_paused) == (3, 0)


def test_calls_are_waiting_claimed_or_in_flight(store: Store) -> None:
    for job_id in ("j1", "j2"):
        epoch = running_job(store, job_id)
        store.calls.open(job_id, epoch, opens("r", role=Role.ROOT))
        store.calls.open(job_id, epoch, opens("a", "b", "c", "d"))
    store.calls.claim("j1", ["a", "b"], "sub-1", LEASE_MS)
    store.calls.settle("j1", "sub-1", [settlement("a")])
    store.workers.announce_requests("sub-1", {"j1": 1}, LEASE_MS)
    found = store.backlog.read(LISTS)
    assert (found.calls_waiting, found.calls_claimed, found.calls_in_flight) == (6, 3, 1)


def test_slots_are_those_of_live_workers_by_role(store: Store) -> None:
    store.workers.announce_slots("sub-1", 256, LEASE_MS)
    store.workers.announce_slots("root-1", 1, LEASE_MS, role=Role.ROOT)
    store.workers.announce_slots("root-2", 1, SHORT_MS, role=Role.ROOT)
    wait_until(lambda: store.backlog.read(LISTS).root_slots == 1)
    assert store.backlog.read(LISTS).sub_slots == 256
    assert store.workers.live() == ["sub-1"]


def test_jobs_and_slots_are_shown_by_depth(store: Store) -> None:
    epoch = running_job(store, "j1", max_depth=3)
    child = spec("j2", max_depth=3).model_copy(update={"parent_id": "j1", "depth": 1})
    store.children.open("j1", epoch, [child])
    assert start_job(store, "j2", "root-1", LEASE_MS)
    store.workers.announce_slots("root-1", 8, LEASE_MS, role=Role.ROOT)
    store.workers.announce_slots("root-2", 4, LEASE_MS, role=Role.ROOT, depth=1)
    found = store.backlog.read(LISTS)
    assert (found.jobs_running, found.root_slots) == (2, 8)
    assert found.depths == (DepthLoad(jobs_running=1, slots=8), DepthLoad(jobs_running=1, slots=4))
    assert store.backlog.read(LISTS, max_depth=3).depths[2:] == (DepthLoad(),)
    deeper = {name: number for name, number in found.fields().items() if name.endswith(".1")}
    assert deeper == {"jobs_running.1": 1, "root_slots.1": 4}


@pytest.mark.parametrize("prefix", ["", "rlm.mine."])
def test_messages_are_counted_by_queue_and_priority(redis_url: str, prefix: str) -> None:
    with (
        make_app(Settings(redis_url=redis_url, broker_prefix=prefix)) as app,
        redis.Redis.from_url(redis_url, decode_responses=True) as client,
    ):
        _send(app)
        messages = Store(client, retention_s=1000).backlog.read(message_lists(prefix)).messages
    assert {name: number for name, number in messages.items() if number} == {
        "rlm.root:high": 1, "rlm.root:normal": 2, "rlm.root.again:low": 1, "rlm.sub:normal": 2,
    }  # fmt: skip


def _send(app: celery.Celery) -> None:
    jobs = [spec(f"j{n}") for n in range(4)]
    send_root(app, jobs[0].model_copy(update={"priority": "high"}), jobs[1], jobs[2])
    send_root(app, jobs[3].model_copy(update={"priority": "low"}), again=True)
    send_sub(app, SubTasks(jobs[0], epoch=1, root_task_id="j0"), 0, [["a"], ["b"]])


def test_it_is_published_by_one_worker_at_a_time_and_expires(store: Store, redis_client: redis.Redis) -> None:
    store.jobs.create([spec("j1")])
    store.backlog.publish(LISTS, prefix="", owner="w1", every_ms=LEASE_MS, ttl_ms=LEASE_MS)
    assert redis_client.hgetall("rlm:backlog") == {
        name: str(number) for name, number in (NOTHING.fields() | {"jobs_waiting": 1}).items()
    }
    assert 0 < redis_client.pttl("rlm:backlog") <= LEASE_MS
    store.jobs.create([spec("j2")])
    store.backlog.publish(LISTS, prefix="", owner="w2", every_ms=LEASE_MS, ttl_ms=LEASE_MS)
    assert redis_client.hget("rlm:backlog", "jobs_waiting") == "1"
    store.backlog.publish(LISTS, prefix="rlm.other.", owner="w2", every_ms=LEASE_MS, ttl_ms=LEASE_MS)
    assert redis_client.hget("rlm.other.rlm:backlog", "jobs_waiting") == "2"
