"""The jobs of a batch by state, order, reason and name, page by page."""

from itertools import pairwise

import pytest
import redis

from rlm_dist.errors import InputError
from rlm_dist.schema import ErrorInfo, JobState, Outcome
from rlm_dist.schema.lists import JobOrder, JobRow
from rlm_dist.store import Store, keys
from tests.support.key_leaks import leaked_keys
from tests.support.store_values import LEASE_MS, finish_job, opens, retry_job, settlement, spec, start_job

DONE = Outcome(state=JobState.SUCCEEDED, answer="x", iterations=2)


def outcome(state: JobState, kind: str = "rate", *, turns: int = 1, limits: tuple[str, ...] = ()) -> Outcome:
    return Outcome(
        state=state, error=ErrorInfo(type=kind, message="m"), iterations=turns, limits_reached=limits
    )


def filled(store: Store, jobs: int) -> list[str]:
    """A sealed batch ``b`` of queued jobs ``j000`` …; returns their ids."""
    store.batches.create("b", "digest")
    ids = [f"j{n:03}" for n in range(jobs)]
    store.jobs.create([spec(name, batch_id="b", index=n) for n, name in enumerate(ids)])
    store.batches.seal("b")
    return ids


def run(store: Store, job_id: str, end: Outcome | None = DONE, *, nanousd: int = 0, calls: int = 0) -> int:
    """Start a job, let it make calls of this price together, and end it."""
    epoch = start_job(store, job_id, "root-1", LEASE_MS) or 0
    for n in range(calls):
        store.calls.open(job_id, epoch, opens(f"c{n}"))
        price = nanousd // calls + (nanousd % calls if n == 0 else 0)
        store.calls.settle(job_id, "sub-1", [settlement(f"c{n}", nanousd=price)])
    if end is not None:
        assert finish_job(store, job_id, epoch, end)
    return epoch


def ids_of(rows: tuple[JobRow, ...] | list[JobRow]) -> list[str]:
    return [row.id for row in rows]


def pages(store: Store, limit: int, **query: object) -> list[list[str]]:
    """All pages of a query."""
    found, after = [], None
    while True:
        page = store.lists.page("b", limit=limit, after=after, **query)  # type: ignore[arg-type]
        found.append(ids_of(page.rows))
        if page.next is None:
            return found
        after = page.next


def test_jobs_are_listed_by_state_in_the_order_of_their_submission(store: Store) -> None:
    ids = filled(store, 6)
    run(store, ids[4])
    run(store, ids[1])
    run(store, ids[2], outcome(JobState.FAILED))
    run(store, ids[0], None)
    states = {state: ids_of(store.lists.page("b", state=state).rows) for state in JobState}
    assert states == {
        JobState.QUEUED: ["j003", "j005"],
        JobState.RUNNING: ["j000"],
        JobState.SUCCEEDED: ["j001", "j004"],
        JobState.FAILED: ["j002"],
        JobState.EXHAUSTED: [],
        JobState.CANCELLED: [],
    }
    assert pages(store, 4) == [ids[:4], ids[4:]]
    assert pages(store, 4, descending=True) == [ids[:1:-1], [ids[1], ids[0]]]


def test_a_parked_job_is_listed_as_queued_again(store: Store) -> None:
    ids = filled(store, 1)
    epoch = run(store, ids[0], None)
    store.jobs.park(ids[0], epoch)
    assert ids_of(store.lists.page("b", state=JobState.QUEUED).rows) == ids
    assert store.lists.page("b", state=JobState.RUNNING).rows == ()


def test_ended_jobs_are_sorted_by_what_they_used(store: Store) -> None:
    ids = filled(store, 5)
    run(store, ids[0], DONE, nanousd=500, calls=1)
    run(store, ids[1], outcome(JobState.FAILED, turns=7), nanousd=300, calls=4)
    run(store, ids[2], outcome(JobState.EXHAUSTED, turns=20), nanousd=900, calls=2)
    run(store, ids[3], DONE, nanousd=100, calls=3)
    assert pages(store, 3, order=JobOrder.COST) == [["j003", "j001", "j000"], ["j002"]]
    assert pages(store, 1, order=JobOrder.COST, descending=True) == [["j002"], ["j000"], ["j001"], ["j003"]]
    assert pages(store, 9, order=JobOrder.COST, state=JobState.SUCCEEDED) == [["j003", "j000"]]
    assert pages(store, 9, order=JobOrder.CALLS, descending=True) == [["j001", "j003", "j002", "j000"]]
    assert pages(store, 9, order=JobOrder.TURNS) == [["j000", "j003", "j001", "j002"]]
    assert sorted(pages(store, 9, order=JobOrder.TIME)[0]) == ids[:4]
    assert store.lists.page("b", order=JobOrder.COST, state=JobState.QUEUED).rows == ()


def test_a_row_says_what_a_list_shows(store: Store) -> None:
    ids = filled(store, 2)
    run(
        store,
        ids[0],
        outcome(JobState.EXHAUSTED, "LimitExceeded", turns=3, limits=("max_usd",)),
        nanousd=5_000_000,
        calls=2,
    )
    row, other = store.lists.page("b").rows
    assert (row.id, row.custom_id, row.state, row.turns, row.reason) == (
        "j000", "j000", JobState.EXHAUSTED, 3, "max_usd",
    )  # fmt: skip
    assert row.costs.total_cost == pytest.approx(0.005)
    assert (row.sub_calls, row.worker) == (2, "root-1")
    assert row.run_ms is not None
    assert row.ended_ms is not None
    assert (other.state, other.turns, other.run_ms, other.reason) == (JobState.QUEUED, 0, None, "")


def test_ties_are_paged_without_loss_while_jobs_go_on_ending(store: Store) -> None:
    ids = filled(store, 40)
    for name in ids[:30]:
        run(store, name)
    first = store.lists.page("b", order=JobOrder.TURNS, limit=10)
    assert first.next
    for name in ids[30:]:
        run(store, name)
    seen = ids_of(first.rows)
    after: str | None = first.next
    while after:
        page = store.lists.page("b", order=JobOrder.TURNS, limit=7, after=after)
        seen += ids_of(page.rows)
        after = page.next
    assert sorted(seen) == ids


def test_a_cursor_holds_when_its_own_job_has_left_the_list(store: Store) -> None:
    ids = filled(store, 6)
    for name in ids:
        run(store, name, outcome(JobState.FAILED))
    first = store.lists.page("b", state=JobState.FAILED, limit=3)
    retry_job(store, ids[2])
    assert ids_of(store.lists.page("b", state=JobState.FAILED, after=first.next).rows) == ids[3:]


@pytest.mark.parametrize("cursor", ["", "x", "e30", "W10", "WzFd", "bnVsbA", "W1sxLCJhIl1d", "é"])
def test_a_cursor_that_is_none_of_ours_is_refused(store: Store, cursor: str) -> None:
    filled(store, 1)
    with pytest.raises(InputError, match="cursor"):
        store.lists.page("b", after=cursor)


def test_a_late_charge_moves_its_job(store: Store) -> None:
    ids = filled(store, 2)
    epoch = start_job(store, ids[0], "root-1", LEASE_MS) or 0
    store.calls.open(ids[0], epoch, opens("late"))
    store.calls.claim(ids[0], ["late"], "sub-1", LEASE_MS)
    finish_job(store, ids[0], epoch, DONE)
    run(store, ids[1], DONE, nanousd=10, calls=1)
    assert pages(store, 9, order=JobOrder.COST) == [ids]
    store.calls.settle(ids[0], "sub-1", [settlement("late", nanousd=50)])
    assert pages(store, 9, order=JobOrder.COST) == [ids[::-1]]


def test_failures_are_counted_and_listed_by_reason(store: Store) -> None:
    ids = filled(store, 5)
    run(store, ids[0], outcome(JobState.FAILED, "rate"))
    run(store, ids[1], outcome(JobState.FAILED, "auth"))
    run(store, ids[2], outcome(JobState.FAILED, "rate"))
    run(store, ids[3], outcome(JobState.EXHAUSTED, "LimitExceeded", limits=("early", "max_tokens")))
    store.jobs.cancel(ids[4])
    assert store.lists.reasons("b") == {"rate": 2, "auth": 1, "max_tokens": 1}
    assert ids_of(store.lists.page("b", reason="rate").rows) == [ids[0], ids[2]]
    assert store.lists.page("b", reason="unheard of").rows == ()
    retry_job(store, ids[0])
    assert store.lists.reasons("b") == {"rate": 1, "auth": 1, "max_tokens": 1}


def test_a_retried_job_leaves_the_lists_of_ended_jobs(store: Store) -> None:
    ids = filled(store, 1)
    run(store, ids[0], outcome(JobState.FAILED, turns=4), nanousd=7, calls=1)
    retry_job(store, ids[0])
    for order in JobOrder:
        state = JobState.QUEUED if order is JobOrder.INDEX else JobState.FAILED
        assert len(store.lists.page("b", order=order, state=state).rows) == (order is JobOrder.INDEX)
    assert store.lists.page("b").rows[0].turns == 0
    run(store, ids[0])
    assert ids_of(store.lists.page("b", order=JobOrder.COST).rows) == ids


def test_jobs_are_found_by_id_and_by_a_part_of_their_name(store: Store) -> None:
    store.batches.create("b", "digest")
    names = ["alpha-1", "alpha-2", "beta-1", "*", "a*b", "ünï", "new\nline"]
    specs = [
        spec(f"j{n}", batch_id="b", index=n).model_copy(update={"custom_id": name})
        for n, name in enumerate(names)
    ]
    store.jobs.create(specs)

    def found(text: str, limit: int = 10) -> list[str]:
        return [row.custom_id for row in store.lists.search("b", text, limit)]

    assert found("alpha") == ["alpha-1", "alpha-2"]
    assert found("j2") == ["beta-1"]
    assert sorted(found("-1")) == ["alpha-1", "beta-1"]
    assert sorted(found("*")) == ["*", "a*b"]
    assert found("nï") == ["ünï"]
    assert found("new\nl") == ["new\nline"]
    assert found("gamma") == []
    assert len(found("a", 2)) == 2


def test_a_histogram_counts_each_ended_job_once(store: Store) -> None:
    ids = filled(store, 21)
    for n, name in enumerate(ids[:20]):
        run(store, name, DONE if n % 2 else outcome(JobState.FAILED), nanousd=10**n if n else 0, calls=1)
    buckets = store.lists.histogram("b", JobOrder.COST)
    assert sum(bucket.count for bucket in buckets) == 20
    assert all(left.high == right.low for left, right in pairwise(buckets))
    assert len(buckets) <= 24
    one = store.lists.histogram("b", JobOrder.COST, state=JobState.FAILED)
    assert sum(bucket.count for bucket in one) == 10
    filled_bucket = next(bucket for bucket in one if bucket.count and bucket.low > 0)
    page = store.lists.page(
        "b", order=JobOrder.COST, state=JobState.FAILED, at_least=filled_bucket.low, below=filled_bucket.high
    )
    assert len(page.rows) == filled_bucket.count
    assert store.lists.histogram("b", JobOrder.CALLS)[0].count == 20


def test_the_histogram_of_nothing_is_empty(store: Store) -> None:
    filled(store, 1)
    assert store.lists.histogram("b", JobOrder.TIME) == []


def test_a_batch_of_an_earlier_version_gets_its_lists(store: Store, redis_client: redis.Redis) -> None:
    ids = filled(store, 4)
    run(store, ids[0], DONE, nanousd=5, calls=1)
    run(store, ids[1], outcome(JobState.FAILED, "auth"))
    redis_client.delete(*(keys.batch("b", part) for part in keys.LIST_PARTS))
    for name in ids:
        redis_client.hdel(keys.job(name), "name", "turns", "reason")
    assert pages(store, 3) == [ids[:3], ids[3:]]
    assert ids_of(store.lists.page("b", state=JobState.SUCCEEDED, order=JobOrder.COST).rows) == ids[:1]
    assert store.lists.reasons("b") == {"auth": 1}
    assert [row.custom_id for row in store.lists.search("b", "j00", 9)] == ids
    row = store.lists.page("b", state=JobState.SUCCEEDED).rows[0]
    assert (row.custom_id, row.turns) == ("j000", 2)


def test_the_lists_live_as_long_as_their_batch(store: Store, redis_client: redis.Redis) -> None:
    ids = filled(store, 2)
    for name in ids:
        run(store, name, outcome(JobState.FAILED))
    for part in keys.LIST_PARTS:
        assert redis_client.pttl(keys.batch("b", part)) > 0, part
    retry_job(store, ids[0])
    for part in keys.LIST_PARTS:
        assert redis_client.pttl(keys.batch("b", part)) in (-1, -2), part
    run(store, ids[0])
    assert leaked_keys(redis_client) == []


def test_jobs_that_end_while_a_list_is_read_spoil_neither_a_page_nor_a_histogram(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more job ends before each trip to the server, in front of the entries that are being read."""
    ids = filled(store, 40)
    for job_id in ids[-3:]:
        run(store, job_id, outcome(JobState.CANCELLED, turns=7))
    others = iter(ids[:-3])
    execute = redis.client.Pipeline.execute

    def end_one_first(self: redis.client.Pipeline, *args: bool) -> list[object]:
        with monkeypatch.context() as patch:
            patch.setattr(redis.client.Pipeline, "execute", execute)
            run(store, next(others))
        return list(execute(self, *args))

    monkeypatch.setattr(redis.client.Pipeline, "execute", end_one_first)
    for _ in range(3):
        assert store.lists.histogram("b", JobOrder.TURNS)[-1].count == 3
        page = store.lists.page("b", state=JobState.CANCELLED, order=JobOrder.TURNS)
        assert ids_of(page.rows) == ids[-3:]
        assert {row.turns for row in page.rows} == {7}
