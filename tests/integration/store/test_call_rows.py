"""The calls of a job are read in bounded pages, with what became of each and what it cost."""

import redis

from rlm_dist.schema import CallResult, Role, Usage
from rlm_dist.store import Settlement, Spend, Store
from rlm_dist.store.call_rows import CallStage, PaidCall, StoredCall
from tests.support.store_values import LEASE_MS, opens, running_job, settlement


def by_id(store: Store, *, requests: bool = False) -> dict[str, StoredCall]:
    return {call.id: call for page in store.call_rows.pages("j", requests=requests) for call in page}


def test_each_call_has_its_stage_its_worker_and_its_texts(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("root", role=Role.ROOT))
    store.calls.open("j", epoch, opens("waits", "held", "done"))
    store.calls.claim("j", ["held", "done"], "sub 1@here:7", LEASE_MS)
    store.calls.settle("j", "sub 1@here:7", [settlement("done")])
    assert by_id(store, requests=True) == {
        "waits": StoredCall("waits", CallStage.WAITING, None, 0, None, "request waits"),
        "held": StoredCall("held", CallStage.CLAIMED, "sub 1@here:7", 0, None, "request held"),
        "done": StoredCall("done", CallStage.ENDED, "sub 1@here:7", 0, "result done", "request done"),
    }
    assert {call.request for call in by_id(store).values()} == {None}


def test_a_job_without_calls_has_no_pages(store: Store) -> None:
    running_job(store)
    assert list(store.call_rows.pages("j")) == []
    assert store.call_rows.paid("j") == {}


def test_the_price_of_a_call_is_that_of_all_its_attempts(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("twice", "unpriced", "free"))
    store.calls.claim("j", ["twice", "unpriced", "free"], "sub-1", LEASE_MS)
    usage = Usage(input_tokens=10, cached_tokens=4, output_tokens=2)
    wasted = (Spend("m", usage, 5),)
    store.calls.settle(
        "j",
        "sub-1",
        [
            Settlement("twice", Role.SUB, "{}", Spend("m", usage, 7), wasted),
            Settlement("unpriced", Role.SUB, "{}", Spend("m", usage, None), wasted),
            Settlement("free", Role.SUB, CallResult().model_dump_json(), None),
        ],
    )
    assert store.call_rows.paid("j") == {
        "twice": PaidCall(12, 20, 8, 4),
        "unpriced": PaidCall(None, 20, 8, 4),
    }


def test_thousands_of_calls_are_read_in_small_steps(store: Store, redis_client: redis.Redis) -> None:
    epoch, count = running_job(store), 3000
    ids = [f"{number:024x}#1" for number in range(count)]
    store.calls.open("j", epoch, opens(*ids))
    for start in range(0, count, 500):
        store.calls.claim("j", ids[start : start + 500], "sub-1", LEASE_MS)
        store.calls.settle("j", "sub-1", [settlement(call_id) for call_id in ids[start : start + 500]])
    pages = list(store.call_rows.pages("j", requests=True))
    assert max(map(len, pages)) <= 200
    assert {call.id for page in pages for call in page} == set(ids)
    assert len(store.call_rows.paid("j")) == count
    assert redis_client.llen("rlm:job:j:charges") == count
