"""All batches together: their states, their jobs, and what endpoints have paused."""

import redis

from rlm_dist.schema import BatchState, JobState, Outcome
from rlm_dist.store import Store, keys
from tests.support.store_values import LEASE_MS, finish_job, spec, start_job


def test_the_newest_batches_are_added_up(store: Store, redis_client: redis.Redis) -> None:
    for name in ("old", "done", "hand", "quota", "runs"):
        store.batches.create(name, "digest")
    for index, name in enumerate(("done", "hand", "quota", "runs", "runs")):
        store.jobs.create([spec(f"j{index}", batch_id=name, index=index)])
    store.batches.seal("done")
    epoch = start_job(store, "j0", "root-1", LEASE_MS)
    assert epoch is not None
    finish_job(store, "j0", epoch, Outcome(state=JobState.FAILED))
    store.batches.pause("hand")
    store.batches.pause("quota")
    redis_client.hset(keys.batch("quota"), "pause_reason", "no credit")
    for age, name in enumerate(("runs", "quota", "hand", "done", "old")):  # they were made in one millisecond
        redis_client.zadd(keys.BATCHES, {name: 1000 - age})
    totals = store.batches.totals(4)
    assert totals.batches == {BatchState.COMPLETED: 1, BatchState.PAUSED: 2, BatchState.RUNNING: 1}
    assert {state: n for state, n in totals.jobs.items() if n} == {JobState.FAILED: 1, JobState.QUEUED: 4}
    assert (totals.paused_by_endpoint, totals.unread) == (1, 1)


def test_no_batch_and_a_batch_whose_retention_is_over(store: Store, redis_client: redis.Redis) -> None:
    assert store.batches.totals(10).batches == {}
    redis_client.zadd(keys.BATCHES, {"gone": 1})
    totals = store.batches.totals(10)
    assert (totals.batches, totals.unread) == ({}, 0)
    redis_client.delete(keys.BATCHES)
