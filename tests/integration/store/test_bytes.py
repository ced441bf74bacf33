"""A job has a budget of the bytes that it stores: its journal, requests, results, trace and blobs."""

import random
from pathlib import Path

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.errors import LimitExceeded
from rlm_dist.schema import CallResult, Role, Usage
from rlm_dist.store import CallRefused, CallState, OpenCall, Settlement, Spend, Store, keys
from tests.support.store_values import LEASE_MS, opens, spec, start_job

KIND = "max_job_bytes"


def start(store: Store, max_bytes: int, job_id: str = "j") -> int:
    """Start a job that may store this much; returns its epoch."""
    store.jobs.create([spec(job_id)])
    epoch = start_job(store, job_id, "root-1", LEASE_MS, "none", max_bytes)
    assert epoch is not None
    return epoch


def served(call_id: str, result: str, usage: Usage | None = None) -> Settlement:
    """An answer that cost 5 nano-dollars."""
    return Settlement(call_id, Role.SUB, result, Spend("m", usage or Usage(input_tokens=3), 5))


def test_a_full_journal_takes_no_entry_more(store: Store) -> None:
    epoch = start(store, 100)
    store.journals.append("j", epoch, "a" * 60)
    store.journals.append("j", epoch, "a" * 60)  # a repeat is no second entry
    store.journals.append("j", epoch, "b" * 40)
    with pytest.raises(LimitExceeded) as raised:
        store.journals.append("j", epoch, "c")
    assert (raised.value.kind, raised.value.used, raised.value.limit) == (KIND, 101, 100)
    assert store.journals.read("j") == ["a" * 60, "b" * 40]


def test_requests_that_do_not_fit_are_refused(store: Store) -> None:
    epoch = start(store, 100)
    calls = [OpenCall(f"c{n}", "r" * 40, 1, 1) for n in range(3)]
    assert store.calls.open("j", epoch, calls) == [CallState.NEW, CallState.NEW, CallRefused(KIND, 120, 100)]
    assert store.calls.open("j", epoch, calls[:2]) == [CallState.PENDING] * 2
    assert store.audits.job("j").differences == []


def test_a_result_that_does_not_fit_fails_its_call_and_is_paid(store: Store) -> None:
    """Its neighbours have their answers, and nobody waits for it."""
    epoch = start(store, 1000)
    store.calls.open("j", epoch, opens("a", "huge", "b"))
    store.calls.claim("j", ["a", "huge", "b"], "sub-1", LEASE_MS)
    first = [served("a", "small"), served("huge", "x" * 5000)]
    assert store.calls.settle("j", "sub-1", first) == [True, True]
    small, huge = store.calls.answers("j", ["a", "huge"])
    assert small == "small"
    failure = CallResult.model_validate_json(huge or "").failure
    assert failure is not None
    assert (failure.kind, KIND in failure.message) == ("limit", True)
    costs = store.jobs.costs("j")
    assert (costs.sub_llm_calls, costs.failed_calls, costs.total_cost) == (2, 1, 10 / 10**9)
    assert store.audits.job("j").differences == []
    assert [reply.call_id for reply in store.calls.replies("j", "0", 10)] == ["a", "huge"]


def test_events_that_do_not_fit_are_left_out_and_the_end_is_shown(store: Store) -> None:
    start(store, 5000)
    store.journals.append_events("j", ["a" * 4000, "b" * 4000, "ended"])
    assert [payload for _, payload in store.journals.read_events("j")] == ["a" * 4000, "ended"]


def test_blobs_count_by_their_stored_size_and_once(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    start(store, 100_000)
    blobs = open_blobs("redis", home=tmp_path, client=redis_client, retention_s=1000)
    payloads = Payloads(store=store, blobs=blobs)
    for _ in range(3):
        payloads.pack("j", "a" * 5_000_000)
    assert int(redis_client.hget(keys.job("j"), "bytes") or 0) < 1000
    dice = random.Random(1)
    payloads.pack("j", dice.randbytes(40_000).hex())
    with pytest.raises(LimitExceeded, match=KIND):
        payloads.pack("j", dice.randbytes(80_000).hex())
    unused = [key for key in redis_client.scan_iter("rlm:blob:*") if redis_client.ttl(key) > 0]
    assert len([key for key in unused if not str(key).endswith(":jobs")]) == 1
    assert redis_client.ttl(unused[0]) <= 600


def test_the_budget_is_that_of_the_worker_that_takes_the_job_up(store: Store) -> None:
    epoch = start(store, 10)
    with pytest.raises(LimitExceeded):
        store.journals.append("j", epoch, "a" * 11)
    store.jobs.park("j", epoch)
    again = start_job(store, "j", "root-2", LEASE_MS, "none", 1000)
    assert again is not None
    store.journals.append("j", again, "a" * 11)
    assert store.journals.read("j") == ["a" * 11]
