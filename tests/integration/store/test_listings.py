"""All batches and jobs, page by page, and costs by tag."""

from typing import Any

import pytest
import redis

from rlm_dist.errors import InputError
from rlm_dist.schema import BatchState, JobState, Role
from rlm_dist.store import Store, keys
from tests.support.played_jobs import answered, pay, play
from tests.support.store_values import LEASE_MS, spec, start_job


def single(store: Store, job_id: str, **tags: str) -> None:
    store.jobs.create([spec(job_id).model_copy(update={"tags": tags})])


def all_pages(list_: Any, limit: int, **query: object) -> list[list[str]]:
    found, after = [], None
    while True:
        page = list_(limit=limit, after=after, **query)
        found.append([row.id for row in page.rows])
        if page.next is None:
            return found
        after = page.next


def test_batches_and_jobs_are_paged_newest_first(store: Store, redis_client: redis.Redis) -> None:
    for n in range(7):
        store.batches.create(f"b{n}", "digest")
        single(store, f"j{n}")
    redis_client.zadd(keys.BATCHES, {f"b{n}": 1000 + n // 3 for n in range(7)})  # some at the same time
    redis_client.zadd(keys.JOBS, dict.fromkeys([f"j{n}" for n in range(7)], 1000))
    assert all_pages(store.listings.batches, 3) == [["b6", "b5", "b4"], ["b3", "b2", "b1"], ["b0"]]
    assert all_pages(store.listings.jobs, 2) == [["j6", "j5"], ["j4", "j3"], ["j2", "j1"], ["j0"]]
    assert all_pages(store.listings.jobs, 7) == [[f"j{n}" for n in range(6, -1, -1)]]


def test_a_cursor_holds_while_jobs_come_and_its_own_one_goes(store: Store, redis_client: redis.Redis) -> None:
    for n in range(5):
        single(store, f"j{n}")
    redis_client.zadd(keys.JOBS, {f"j{n}": n for n in range(5)})
    first = store.listings.jobs(limit=2)
    single(store, "j9")
    store.jobs.cancel("j3")
    redis_client.zrem(keys.JOBS, "j3")
    second = store.listings.jobs(limit=2, after=first.next)
    assert [row.id for row in second.rows] == ["j2", "j1"]


def test_lists_take_a_state_and_tags(store: Store) -> None:
    store.batches.create("b1", "digest", tags={"team": "a", "run": "x"})
    store.batches.create("b2", "digest", tags={"team": "b"})
    store.jobs.create([spec("in1", batch_id="b1"), spec("in2", batch_id="b2")])
    single(store, "alone", team="a")
    store.batches.cancel("b2")
    batches, jobs = store.listings.batches, store.listings.jobs
    assert all_pages(batches, 5, tags={"team": "a"}) == [["b1"]]
    assert all_pages(batches, 5, state=BatchState.CANCELLED) == [["b2"]]
    assert all_pages(batches, 5, tags={"team": "a", "run": "y"}) == [[]]
    assert sorted(all_pages(jobs, 5, tags={"team": "a"})[0]) == ["alone", "in1"]
    assert all_pages(jobs, 5, state=JobState.CANCELLED) == [["in2"]]
    rows = {row.id: row for row in jobs().rows}
    assert (rows["in1"].batch_id, rows["alone"].batch_id) == ("b1", None)
    assert (rows["alone"].tags, store.batches.get("b1").tags) == ({"team": "a"}, {"team": "a", "run": "x"})


def test_the_tags_of_a_batch_can_be_replaced(store: Store) -> None:
    store.batches.create("b", "digest", tags={"team": "a"})
    store.batches.set_budget("b")
    assert store.batches.get("b").tags == {"team": "a"}
    store.batches.set_budget("b", tags={"team": "b"})
    assert store.batches.get("b").tags == {"team": "b"}


@pytest.mark.parametrize("cursor", ["", "x", "e30", "W10", "WzFd", "bnVsbA", "WyJhIiwxXQ", "é"])
def test_a_cursor_that_is_none_of_ours_is_refused(store: Store, cursor: str) -> None:
    for list_ in (store.listings.jobs, store.listings.batches):
        with pytest.raises(InputError, match="cursor"):
            list_(after=cursor)


def test_costs_are_split_by_tag_exactly_and_what_is_unknown_stays_unknown(store: Store) -> None:
    store.batches.create("b1", "digest", tags={"team": "a"})
    store.jobs.create([spec("in1", batch_id="b1", index=0), spec("in2", batch_id="b1", index=1)])
    single(store, "j1", team="a")
    single(store, "j2", team="b")
    single(store, "j3")
    for job_id, nanousd in [("in1", 1), ("in2", 10), ("j1", 100), ("j2", None), ("j3", 7)]:
        pay(store, job_id, Role.SUB, nanousd)
    play(store, "in1", answered("x"))
    a, b, none = store.listings.costs_by_tag("team")
    assert (a.value, a.batches, a.single_jobs, b.value, none.value) == ("a", 1, 1, "b", None)
    assert (a.costs.total_cost, b.costs.total_cost, none.costs.total_cost) == (111e-9, None, 7e-9)
    assert (a.costs.sub_llm_calls, a.costs.sub_llm_tokens, b.costs.sub_llm_calls) == (3, 330, 1)
    by_each = store.listings.costs_by_tag()
    assert [(row.tag, row.value) for row in by_each] == [("team", "a"), ("team", "b"), ("team", None)]
    assert store.listings.costs_by_tag("nothing")[0].costs.total_cost is None


def test_costs_by_tag_of_an_empty_store(store: Store) -> None:
    assert store.listings.costs_by_tag("team") == store.listings.costs_by_tag() == []


def test_a_page_is_filled_from_as_many_chunks_as_it_takes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlm_dist.store.listings._AT_ONCE", 2)
    for n in range(9):
        single(store, f"j{n}")
    assert start_job(store, "j0", "root", LEASE_MS)
    assert all_pages(store.listings.jobs, 3, state=JobState.RUNNING) == [["j0"]]
    assert sum(map(len, all_pages(store.listings.jobs, 4))) == 9
