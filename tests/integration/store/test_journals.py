"""Traces, journals and the workers' slots in the store."""

import redis

from rlm_dist.store import Store
from tests.support.store_values import running_job
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
