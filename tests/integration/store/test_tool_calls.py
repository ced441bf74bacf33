"""Results of tools' calls in a real store: stored once, fenced, counted once for job and batch."""

import pytest

from rlm_dist.errors import LimitExceeded, NotFound, Superseded
from rlm_dist.schema import JobState, Outcome
from rlm_dist.schema.leases import LEASE_MS
from rlm_dist.store import Store, keys
from tests.support.store_values import finish_job, running_job, spec, start_job


def test_the_first_result_is_kept_and_counted_once(store: Store) -> None:
    epoch = running_job(store)
    assert store.tool_calls.result("j", "a#1") is None
    assert store.tool_calls.settle("j", epoch, "a#1", "first") == "first"
    assert store.tool_calls.settle("j", epoch, "a#1", "second") == "first"
    assert store.tool_calls.settle("j", epoch, "a#2", "second") == "second"
    assert store.tool_calls.result("j", "a#1") == "first"
    assert store.jobs.costs("j").tool_calls == 2


def test_a_batch_counts_those_of_its_jobs(store: Store) -> None:
    store.batches.create("b", digest="d", total=2)
    store.jobs.create([spec(name, batch_id="b", index=n) for n, name in enumerate(("j", "k"))])
    for name in ("j", "k"):
        epoch = start_job(store, name, "root-1", LEASE_MS)
        assert epoch is not None
        store.tool_calls.settle(name, epoch, "a#1", "x")
    assert store.batches.costs("b").tool_calls == 2
    assert store.audits.job("j").differences == []


def test_a_worker_that_lost_the_job_stores_nothing(store: Store) -> None:
    epoch = running_job(store)
    with pytest.raises(Superseded):
        store.tool_calls.settle("j", epoch - 1, "a#1", "x")
    finish_job(store, "j", epoch, Outcome(state=JobState.SUCCEEDED, answer="x"))
    with pytest.raises(Superseded):
        store.tool_calls.settle("j", epoch, "a#1", "x")
    with pytest.raises(NotFound):
        store.tool_calls.settle("none", epoch, "a#1", "x")
    assert store.jobs.costs("j").tool_calls == 0


def test_results_count_as_bytes_of_the_job(store: Store) -> None:
    store.jobs.create([spec("j")])
    epoch = start_job(store, "j", "root-1", LEASE_MS, "off", 10_000)
    assert epoch is not None
    store.tool_calls.settle("j", epoch, "a#1", "x" * 5000)
    with pytest.raises(LimitExceeded, match="max_job_bytes"):
        store.tool_calls.settle("j", epoch, "a#2", "x" * 6000)


def test_they_expire_with_the_job(store: Store) -> None:
    epoch = running_job(store)
    store.tool_calls.settle("j", epoch, "a#1", "x")
    finish_job(store, "j", epoch, Outcome(state=JobState.SUCCEEDED, answer="x"))
    assert store.connection.client.pttl(keys.job("j", "tools")) > 0
