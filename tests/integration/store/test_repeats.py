"""Each reply of Redis is lost once, after its work was done: the result is as if none had been lost."""

from typing import Any

import redis

from rlm_dist.schema import JobState, Outcome, Role
from rlm_dist.store import Store
from tests.support.redis_servers import RedisServer
from tests.support.store_values import LEASE_MS, finish_job, opens, retry_job, settlement, spec, start_job

DONE = Outcome(state=JobState.SUCCEEDED, answer="42")


class Forgetful(redis.Redis):
    """A client that runs a command, then reports that there was no reply; the repeat gets the reply."""

    calls = 0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command; every other reply is lost."""
        reply = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # untyped there
        self.calls += 1
        if self.calls % 2:
            raise redis.TimeoutError("the reply was lost")
        return reply


def life_of_a_batch(store: Store) -> None:
    """Every write of the store that is one script, in the order of a job's life, with a retry at the end."""
    store.batches.create("b", "digest", 1, max_tokens=10_000)
    store.batches.set_budget("b", None, 20_000)
    store.jobs.create([spec(batch_id="b", max_sub_calls=9)])
    store.batches.seal("b")
    epoch = start_job(store, "j", "root-1", LEASE_MS) or 0
    assert store.jobs.park("j", epoch) is True
    epoch = start_job(store, "j", "root-2", LEASE_MS) or 0
    store.jobs.renew("j", epoch, LEASE_MS)
    store.jobs.use_blob("j", "beef", 1)
    store.journals.append_events("j", ["started"])
    store.calls.open("j", epoch, [*opens("r", role=Role.ROOT, tokens=5), *opens("a", "b", "c", tokens=7)])
    store.journals.append("j", epoch, "reply")
    assert store.calls.claim("j", ["a", "b", "c"], "sub-1", LEASE_MS) == [
        "request a",
        "request b",
        "request c",
    ]
    assert store.calls.reserve_more("j", "a", "sub-1", 5) is True
    assert store.calls.settle("j", "root-2", [settlement("r", role=Role.ROOT)]) == [True]
    assert store.calls.settle("j", "sub-1", [settlement("a"), settlement("b")]) == [True, True]
    assert store.calls.settle("j", "sub-2", [settlement("b")]) == [False]
    store.jobs.note_cache_hits("j", 3)
    store.workers.announce_slots("sub-1", 8, LEASE_MS)
    assert finish_job(store, "j", epoch, Outcome(state=JobState.FAILED)) is True
    retry_job(store, "j")
    epoch = start_job(store, "j", "root-3", LEASE_MS) or 0
    store.calls.open("j", epoch, opens("c", tokens=7))
    assert finish_job(store, "j", epoch, DONE) is True


def state(client: Any) -> dict[str, Any]:
    """The stored state, without times and tokens."""
    found: dict[str, Any] = {
        "job": client.hmget("rlm:job:j", "state", "epoch", "outcome", "recoveries"),
        "ledger": client.hgetall("rlm:job:j:ledger"),
        "batch": {k: v for k, v in client.hgetall("rlm:batch:b").items() if k != "created_ms"},
        "batch ledger": client.hgetall("rlm:batch:b:ledger"),
        "charges": client.lrange("rlm:job:j:charges", 0, -1),
        "journal": client.lrange("rlm:job:j:journal", 0, -1),
        "trace": [fields for _, fields in client.xrange("rlm:job:j:trace")],
        "replies": [fields for _, fields in client.xrange("rlm:job:j:replies")],
        "ended": [fields | {"ms": "…"} for _, fields in client.xrange("rlm:batch:b:ended")],
        "done": [fields for _, fields in client.xrange("rlm:job:j:done")],
        "lists": [client.zcard(name) for name in ("rlm:queued", "rlm:leases", "rlm:jobs", "rlm:batches")],
    }
    assert all(found.values())
    return found


def test_a_reply_that_is_lost_changes_nothing(each_redis_server: RedisServer) -> None:
    states = []
    for kind in (redis.Redis, Forgetful):
        with redis.Redis.from_url(each_redis_server.admin_url, decode_responses=True) as looker:
            looker.flushall()
            with kind.from_url(each_redis_server.url, decode_responses=True) as client:
                life_of_a_batch(Store(client, retention_s=1000, patience_s=30))
                assert isinstance(client, Forgetful) == (getattr(client, "calls", 0) > 40)
            states.append(state(looker))
    assert states[0] == states[1]
