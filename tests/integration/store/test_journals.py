"""Traces, journals and the workers' slots in the store."""

import pytest
import redis

from rlm_dist.errors import Cancelled, LimitExceeded, Superseded
from rlm_dist.schema import Role
from rlm_dist.store import Store
from rlm_dist.store.journals import Entries
from tests.support.store_values import LEASE_MS, opens, running_job, spec, start_job
from tests.support.waiting import wait_until


def test_events_are_read_in_order_from_a_cursor(store: Store) -> None:
    running_job(store)
    store.journals.append_events("j", ["one", "two"])
    store.journals.append_events("j", [])
    store.journals.append_events("j", ["two"])
    events = store.journals.read_events("j")
    assert [payload for _, payload in events] == ["one", "two", "two"]
    assert store.journals.read_events("j", after=events[1][0]) == [events[2]]
    assert store.journals.read_events("j", after=events[2][0], block_ms=10) == []


def test_texts_with_lone_surrogates_come_back(store: Store) -> None:
    epoch = running_job(store)
    store.journals.append("j", epoch, "\ud800 ünïcode \0")
    assert store.journals.read("j") == ["\ud800 ünïcode \0"]


def test_a_repeated_journal_entry_is_kept_once(store: Store) -> None:
    epoch = running_job(store)
    for entry in ("one", "two", "two"):
        store.journals.append("j", epoch, entry)
    assert store.journals.read("j") == ["one", "two"]


def test_repeated_entries_are_kept_once(store: Store) -> None:
    epoch = running_job(store)
    for texts in (["one"], ["two", "three"], ["two", "three"], ["three", "two"]):
        store.journals.extend("j", epoch, Entries(texts, 1))
    assert store.journals.read("j") == ["one", "two", "three", "three", "two"]


def test_entries_are_stored_with_the_call_that_rests_on_them(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store)
    entries = Entries(["reply", "cell"], 2)
    for state in ("new", "pending"):
        assert store.calls.open("j", epoch, opens("a", role=Role.ROOT), entries) == [state]
    assert store.journals.read("j") == ["reply", "cell"]
    assert redis_client.hget("rlm:job:j", "turns") == "2"


def test_a_worker_that_lost_the_job_stores_no_entries_with_a_call(store: Store) -> None:
    epoch = running_job(store)
    with pytest.raises(Superseded):
        store.calls.open("j", epoch - 1, opens("a", role=Role.ROOT), Entries(["late"], 1))
    assert store.journals.read("j") == []


def test_a_job_that_is_to_stop_keeps_its_entries_and_opens_no_call(
    store: Store, redis_client: redis.Redis
) -> None:
    epoch = running_job(store)
    store.jobs.cancel("j")
    with pytest.raises(Cancelled):
        store.calls.open("j", epoch, opens("a", role=Role.ROOT), Entries(["cell"], 1))
    assert store.journals.read("j") == ["cell"]
    assert not redis_client.hexists("rlm:job:j:calls", "a")


def test_without_room_for_its_entries_no_call_is_opened(store: Store, redis_client: redis.Redis) -> None:
    store.jobs.create([spec("j")])
    epoch = start_job(store, "j", "root-1", LEASE_MS, "off", 10)
    assert epoch is not None
    with pytest.raises(LimitExceeded, match="max_job_bytes"):
        store.calls.open("j", epoch, opens("a", role=Role.ROOT), Entries(["12345678901"], 1))
    assert store.journals.read("j") == []
    assert not redis_client.hexists("rlm:job:j:calls", "a")


def test_the_window_is_a_fair_share_of_the_live_slots(store: Store, redis_client: redis.Redis) -> None:
    assert store.workers.fair_window().calls == 64
    store.workers.announce_slots("sub-1", 300, ttl_ms=60_000)
    store.workers.announce_slots("sub-2", 300, ttl_ms=60_000)
    store.workers.announce_slots("sub-2", 200, ttl_ms=60_000)
    assert store.workers.fair_window().calls == 1000
    for name in ("j", "k", "l"):
        running_job(store, name)
    assert store.workers.fair_window().calls == 333
    store.workers.announce_slots("sub-3", 100_000, ttl_ms=50)
    assert redis_client.ttl("rlm:slots") > 50
    wait_until(lambda: store.workers.fair_window().calls == 333)
    store.workers.announce_slots("sub-1", 100_000, ttl_ms=60_000)
    assert store.workers.fair_window().calls == 4096
    assert set(redis_client.hkeys("rlm:slots")) == {"sub-1", "sub-2"}
