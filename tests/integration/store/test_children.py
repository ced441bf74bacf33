"""Child jobs in the store: one tree with one ledger, one end, and one time to expire."""

from typing import Any

import pytest
import redis

from rlm_dist.errors import Cancelled, InputError, NotFound, Parked, Superseded
from rlm_dist.schema import JobSpec, JobState, Outcome, Role
from rlm_dist.schema.lists import JobOrder
from rlm_dist.store import CallRefused, Settlement, Store
from tests.support.store_values import (
    LEASE_MS,
    SHORT_MS,
    at_once,
    counted,
    finish_job,
    opens,
    retry_job,
    running_job,
    settlement,
    spec,
    start_job,
)
from tests.support.waiting import wait_until

QUEUED, RUNNING, CANCELLED = JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED
ANSWERED = Outcome(state=JobState.SUCCEEDED, answer="a")


def child(job_id: str, parent_id: str = "j", depth: int = 1, sha: str = "c0ffee") -> JobSpec:
    """The spec of a child."""
    return spec(job_id, sha=sha).model_copy(update={"parent_id": parent_id, "depth": depth})


def running_child(store: Store, job_id: str, parent_id: str, epoch: int, depth: int = 1) -> int:
    """Create and start a child; returns its epoch."""
    assert store.children.open(parent_id, epoch, [child(job_id, parent_id, depth)]) == [QUEUED]
    started = start_job(store, job_id, f"root-{job_id}", LEASE_MS)
    assert started
    return started


def test_a_child_is_created_once_and_its_outcome_is_read_when_it_has_ended(store: Store) -> None:
    epoch = running_job(store)
    specs = [child("c1"), child("c2")]
    assert store.children.open("j", epoch, specs) == [QUEUED, QUEUED]
    assert store.children.open("j", epoch, specs) == [QUEUED, QUEUED]
    started = start_job(store, "c1", "root-2", LEASE_MS)
    assert started
    assert store.children.open("j", epoch, specs) == [RUNNING, QUEUED]
    assert store.children.outcomes(["c1", "c2"]) == [None, None]
    assert finish_job(store, "c1", started, ANSWERED)
    assert store.children.open("j", epoch, specs) == [JobState.SUCCEEDED, QUEUED]
    assert store.children.outcomes(["c2", "c1", "nobody"]) == [None, ANSWERED, None]
    assert store.jobs.get("c1").spec == specs[0]
    assert store.children.outcomes([]) == []
    assert store.children.open("j", epoch, []) == []


def ledger(client: redis.Redis, job_id: str) -> dict[str, int]:
    """The ledger of a job, or of the batch ``b``, without zeros."""
    key = "rlm:batch:b:ledger" if job_id == "b" else f"rlm:job:{job_id}:ledger"
    return {str(field): int(value) for field, value in client.hgetall(key).items() if int(value)}


def tree(store: Store, *, batch: bool = False, **limits: Any) -> tuple[int, int, int]:
    """A running job j, its running child c and the running child g of that; returns their epochs."""
    if batch:
        store.batches.create("b", "digest", 1)
    epoch = running_job(store, batch_id="b" if batch else None, **limits)
    child_epoch = running_child(store, "c", "j", epoch)
    return epoch, child_epoch, running_child(store, "g", "c", child_epoch, 2)


def test_what_a_child_uses_counts_in_every_job_above_it_and_once_in_the_batch(
    store: Store, redis_client: redis.Redis
) -> None:
    epochs = tree(store, batch=True)
    for job_id, epoch in zip("jcg", epochs, strict=True):
        assert store.calls.open(job_id, epoch, opens(f"x{job_id}", nanousd=5, tokens=7)) == ["new"]
        store.calls.claim(job_id, [f"x{job_id}"], "sub-1", LEASE_MS)
    for job_id, calls in (("j", 3), ("c", 2), ("g", 1), ("b", 3)):
        now = ledger(redis_client, job_id)
        assert (now["reserved_nanousd"], now["reserved_tokens"], now["in_flight"]) == (
            5 * calls, 7 * calls, calls,
        )  # fmt: skip
    for job_id in "jcg":
        store.calls.settle(job_id, "sub-1", [settlement(f"x{job_id}", nanousd=2)])
    for job_id, calls in (("j", 3), ("c", 2), ("g", 1), ("b", 3)):
        now = ledger(redis_client, job_id)
        assert (now["spent_nanousd"], now["committed_tokens"], now["line:sub:calls:m"]) == (
            2 * calls, 12 * calls, calls,
        )  # fmt: skip
        assert now.keys().isdisjoint({"reserved_nanousd", "reserved_tokens", "in_flight"})
    assert [store.jobs.costs(job_id).sub_llm_calls for job_id in "jcg"] == [3, 2, 1]
    assert [ledger(redis_client, job_id).get("children", 0) for job_id in "jcg"] == [2, 1, 0]
    assert store.audits.job("j") == store.audits.job("j")._replace(charges=3, differences=[])
    redis_client.hincrby("rlm:job:c:ledger", "spent_nanousd", 1)
    assert [each.ledger for each in store.audits.job("j").differences] == ["job c"]
    redis_client.hincrby("rlm:job:c:ledger", "spent_nanousd", -1)
    finish_job(store, "j", epochs[0], ANSWERED)
    store.batches.seal("b")
    assert store.audits.batch("b", store.batches.get("b").state).differences == []


def test_children_take_from_the_budgets_above_them(store: Store) -> None:
    _, epoch, lowest = tree(store, max_nanousd=100)
    assert store.calls.open("c", epoch, opens("a", nanousd=60)) == ["new"]
    refused = CallRefused("max_usd", 60e-9, 1e-7, 50e-9)
    assert store.calls.open("g", lowest, opens("a", nanousd=50)) == [refused]
    assert store.calls.open("g", lowest, opens("b", nanousd=40)) == ["new"]
    assert store.calls.claim("g", ["b"], "sub-1", LEASE_MS) == ["request b"]
    assert store.calls.reserve_more("g", "b", "sub-1", 40)
    assert not store.calls.reserve_more("g", "b", "sub-1", 41)
    store.calls.settle("c", "sub-1", [settlement("a", nanousd=1)])
    assert store.calls.reserve_more("g", "b", "sub-1", 99)


def test_when_a_shared_limit_is_hit_children_can_report_and_the_root_can_answer(store: Store) -> None:
    epoch, child_epoch, _ = tree(store, max_tokens=100)
    assert store.calls.keep("j", epoch, tokens=30, nanousd=None) is None
    assert store.calls.keep("c", child_epoch, tokens=20, nanousd=None) is None
    call = opens("a", tokens=60)
    assert store.calls.open("c", child_epoch, call) == [CallRefused("max_tokens", 50, 100, 60)]
    assert store.calls.open("c", child_epoch, opens("b", tokens=50)) == ["new"]
    # All is taken: only what each keeps for its next root call is left to it.
    assert isinstance(store.calls.open("c", child_epoch, opens("d", tokens=1))[0], CallRefused)
    assert store.calls.open("c", child_epoch, opens("r", tokens=20, role=Role.ROOT)) == ["new"]
    assert store.calls.open("j", epoch, opens("r", tokens=30, role=Role.ROOT)) == ["new"]
    assert store.audits.job("j").differences == []


def test_a_child_counts_once_as_a_sub_call_of_every_job_above(
    store: Store, redis_client: redis.Redis
) -> None:
    epoch, child_epoch, lowest = tree(store, max_sub_calls=4)  # c and g are two of them
    assert store.calls.open("g", lowest, opens("a")) == ["new"]
    assert store.children.open("j", epoch, [child("c")]) == [RUNNING]  # no further one
    states = store.children.open("j", epoch, [child("d"), child("e")])
    assert states == [QUEUED, CallRefused("max_sub_calls", 4, 4)]
    assert store.calls.open("c", child_epoch, opens("b")) == [CallRefused("max_sub_calls", 4, 4)]
    assert store.calls.open("j", epoch, opens("r", role=Role.ROOT)) == ["new"]
    assert [ledger(redis_client, "j")[field] for field in ("sub_calls", "children")] == [1, 3]
    with pytest.raises(NotFound):
        store.jobs.get("e")


def test_racing_children_hold_a_limit(store: Store) -> None:
    epoch = running_job(store, max_sub_calls=10)
    states = at_once(40, lambda n: store.children.open("j", epoch, [child(f"c{n % 20}")])[0])
    assert counted(states, QUEUED) == 20
    assert store.children.count("j") == 10


def test_only_the_parents_latest_epoch_has_children(store: Store) -> None:
    epoch = running_job(store, lease_ms=SHORT_MS)
    wait_until(lambda: store.jobs.lapsed(10))
    again = start_job(store, "j", "root-2", LEASE_MS)
    assert again
    with pytest.raises(Superseded):
        store.children.open("j", epoch, [child("c")])
    assert store.children.open("j", again, [child("c")]) == [QUEUED]
    with pytest.raises(NotFound):
        store.children.open("nobody", 1, [child("c")])
    store.jobs.cancel("j")
    with pytest.raises(Cancelled):
        store.children.open("j", again, [child("d")])


def test_the_end_of_a_child_wakes_its_parent_and_leaves_no_mark_in_the_batch(
    store: Store, redis_client: redis.Redis
) -> None:
    epochs = tree(store, batch=True)
    assert [job.spec.id for job in store.jobs.newest(10)] == ["j"]
    assert [row.id for row in store.listings.jobs().rows] == ["j"]
    finish_job(store, "g", epochs[2], ANSWERED)
    finish_job(store, "c", epochs[1], ANSWERED)
    assert [(reply.call_id, reply.packed) for reply in store.calls.replies("c", "0", 10)] == [("g", None)]
    assert [(reply.call_id, reply.packed) for reply in store.calls.replies("j", "0", 10)] == [("c", None)]
    counts = store.batches.get("b").counts
    assert {state: n for state, n in counts.items() if n} == {RUNNING: 1}
    assert [row.id for row in store.lists.page("b").rows] == ["j"]
    assert store.batches.job_ids("b", 0, 10) == ["j"]
    assert store.batches.ended_jobs("b") == []
    finish_job(store, "j", epochs[0], ANSWERED)
    assert [job_id for _, job_id in store.batches.ended_jobs("b")] == ["j"]
    for order in JobOrder:
        assert [row.id for row in store.lists.page("b", order=order).rows] == ["j"]
    assert not redis_client.exists("rlm:leases", "rlm:queued")


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.EXHAUSTED])
def test_the_end_of_a_job_ends_what_is_below_it(
    store: Store, redis_client: redis.Redis, state: JobState
) -> None:
    epochs = tree(store, batch=True)
    store.children.open("c", epochs[1], [child("waiting", "c", 2)])
    for job_id, epoch in zip("jcg", epochs, strict=True):
        store.calls.open(job_id, epoch, opens(f"x{job_id}", nanousd=5, tokens=7))
        store.calls.claim(job_id, [f"x{job_id}"], "sub-1", LEASE_MS)
        store.calls.keep(job_id, epoch, tokens=3, nanousd=1, partly=True)
    assert finish_job(store, "j", epochs[0], Outcome(state=state))
    assert store.jobs.states(["c", "g", "waiting"]) == [CANCELLED] * 3
    assert store.children.outcomes(["g"]) == [Outcome(state=CANCELLED)]
    assert store.jobs.renew("g", epochs[2], LEASE_MS) == "cancelled"
    assert store.calls.renew("sub-1", {"g": ["xg"]}, LEASE_MS).cancelled == {"g"}
    with pytest.raises(Cancelled):
        store.calls.open("g", epochs[2], opens("z"))
    assert [store.jobs.costs(job_id).pending_calls for job_id in "jcg"] == [3, 2, 1]
    assert store.batches.costs("b").pending_calls == 3
    store.calls.settle("g", "sub-1", [settlement("xg", nanousd=2)])
    store.calls.settle("j", "sub-1", [settlement("xj", nanousd=2)])
    assert [store.jobs.costs(job_id).pending_calls for job_id in "jcg"] == [1, 1, 0]
    assert [ledger(redis_client, name).get("spent_nanousd", 0) for name in "bjcg"] == [4, 4, 2, 2]
    store.calls.settle("c", "sub-1", [Settlement("xc", Role.SUB, "", None)])
    for name in "bjcg":
        assert (
            ledger(redis_client, name)
            .keys()
            .isdisjoint({"reserved_nanousd", "reserved_tokens", "in_flight", "pending_calls"})
        )
    assert not redis_client.exists("rlm:leases", "rlm:queued")
    by_cost = store.lists.page("b", order=JobOrder.COST, at_least=4)  # late charges of children too
    assert [row.id for row in by_cost.rows] == ["j"]


def test_to_cancel_a_job_cancels_what_is_below_it(store: Store) -> None:
    epochs = tree(store)
    store.children.open("c", epochs[1], [child("waiting", "c", 2)])
    assert store.jobs.cancel("j") is RUNNING
    assert store.jobs.get("waiting").state is CANCELLED
    for job_id, epoch in zip("jcg", epochs, strict=True):
        assert store.jobs.renew(job_id, epoch, LEASE_MS) == "cancelled"
    finish_job(store, "g", epochs[2], Outcome(state=CANCELLED))
    finish_job(store, "c", epochs[1], Outcome(state=CANCELLED))
    assert finish_job(store, "j", epochs[0], Outcome(state=CANCELLED))


@pytest.mark.parametrize("job_id", ["g", "c", "j"])
def test_an_answer_that_comes_after_the_cancel_is_no_success(store: Store, job_id: str) -> None:
    """It may rest on calls and children that the cancel has ended."""
    epoch = dict(zip("jcg", tree(store), strict=True))[job_id]
    store.jobs.cancel("j")
    with pytest.raises(Cancelled):
        store.jobs.end(job_id, epoch, ANSWERED)
    assert store.jobs.get(job_id).state is RUNNING
    assert finish_job(store, job_id, epoch, Outcome(state=CANCELLED))


def test_a_child_that_was_not_told_learns_from_the_jobs_above_it(
    store: Store, redis_client: redis.Redis
) -> None:
    """Whoever cancelled the job may have died before it reached the children."""
    epochs = tree(store)
    store.children.open("c", epochs[1], [child("waiting", "c", 2)])
    redis_client.hset("rlm:job:j", "cancel", 1)
    assert store.jobs.renew("g", epochs[2], LEASE_MS) == "cancelled"
    with pytest.raises(Cancelled):
        store.calls.open("g", epochs[2], opens("a"))
    with pytest.raises(Cancelled):
        store.children.open("c", epochs[1], [child("new", "c", 2)])
    assert start_job(store, "waiting", "root-2", LEASE_MS) == 0
    assert store.jobs.get("waiting").state is CANCELLED


def test_a_batch_is_paused_resumed_and_cancelled_with_the_jobs_below_its_own(
    store: Store, redis_client: redis.Redis
) -> None:
    epochs = tree(store, batch=True)
    store.children.open("c", epochs[1], [child("waiting", "c", 2)])
    store.batches.pause("b")
    assert store.jobs.renew("g", epochs[2], LEASE_MS) == "paused"
    with pytest.raises(Parked):
        store.calls.open("g", epochs[2], opens("a"))
    with pytest.raises(Parked):
        store.children.open("c", epochs[1], [child("new", "c", 2)])
    assert not store.jobs.park("g", epochs[2])
    assert start_job(store, "waiting", "root-2", LEASE_MS) is None
    assert {state: n for state, n in store.batches.get("b").counts.items() if n} == {RUNNING: 1}
    assert store.jobs.waiting(LEASE_MS, 10) == []
    store.batches.resume("b")
    assert sorted(store.jobs.waiting(LEASE_MS, 10)) == ["g", "waiting"]
    store.batches.cancel("b")
    assert start_job(store, "g", "root-2", LEASE_MS) == 0
    assert store.jobs.renew("c", epochs[1], LEASE_MS) == "cancelled"
    assert store.jobs.states(["g", "c", "j"]) == [CANCELLED, RUNNING, RUNNING]


def test_a_child_is_recovered_as_any_job(store: Store) -> None:
    epoch = running_job(store)
    store.children.open("j", epoch, [child("c")])
    start_job(store, "c", "root-2", SHORT_MS)
    assert wait_until(lambda: store.jobs.lapsed(10)) == ["c"]
    assert start_job(store, "c", "root-3", LEASE_MS) == 2
    assert store.children.open("j", epoch, [child("c")]) == [RUNNING]


def test_what_a_child_stored_lives_as_long_as_its_top_job(store: Store, redis_client: redis.Redis) -> None:
    redis_client.hset("rlm:blob:own", "data", "x")
    epoch = running_job(store)
    store.children.open("j", epoch, [child("c", sha="own")])
    started = start_job(store, "c", "root-2", LEASE_MS) or 0
    running_child(store, "g", "c", started, 2)
    store.calls.open("c", started, opens("a"))
    finish_job(store, "c", started, ANSWERED)
    names = sorted(redis_client.scan_iter("rlm:job:[cg]*"))
    assert {redis_client.ttl(name) for name in [*names, "rlm:blob:own"]} == {-1}
    finish_job(store, "j", epoch, ANSWERED)
    assert {redis_client.ttl(name) > 0 for name in [*names, "rlm:blob:own"]} == {True}
    assert store.jobs.unused_blobs(["own"]) == []
    with pytest.raises(InputError, match="child of job j"):
        store.jobs.delete("c")
    assert sorted(store.jobs.delete("j")) == ["c0ffee", "own"]
    assert list(redis_client.scan_iter("rlm:job:*")) == []
    assert not redis_client.exists("rlm:blob:own")


def test_a_batch_is_deleted_with_the_jobs_below_its_own(store: Store, redis_client: redis.Redis) -> None:
    epochs = tree(store, batch=True)
    store.batches.seal("b")
    finish_job(store, "j", epochs[0], ANSWERED)
    store.batches.delete("b")
    assert set(redis_client.scan_iter("rlm:*")) == set()


def test_a_retried_job_gets_new_answers_of_children_without_one(
    store: Store, redis_client: redis.Redis
) -> None:
    epoch, child_epoch, lowest = tree(store)
    store.children.open("j", epoch, [child("done")])
    finish_job(store, "done", start_job(store, "done", "r", LEASE_MS) or 0, ANSWERED)
    store.calls.open("g", lowest, opens("paid", "open", nanousd=5))
    store.calls.claim("g", ["open"], "sub-1", LEASE_MS)
    store.calls.settle("g", "sub-1", [settlement("paid")])
    store.journals.append("j", epoch, "entry", 1)
    finish_job(store, "g", lowest, Outcome(state=JobState.FAILED))
    assert store.children.open("c", child_epoch, [child("g", "c", 2)]) == [
        JobState.FAILED
    ]  # as its journal says
    finish_job(store, "c", child_epoch, Outcome(state=JobState.EXHAUSTED))
    finish_job(store, "j", epoch, Outcome(state=JobState.FAILED))
    assert retry_job(store, "j")
    assert store.journals.read("j") == []
    assert {redis_client.ttl(name) for name in redis_client.scan_iter("rlm:job:*")} == {-1}
    assert store.jobs.costs("j").pending_calls == 1  # that of g, which goes on
    epoch = start_job(store, "j", "root-1", LEASE_MS) or 0
    assert store.children.open("j", epoch, [child("c"), child("done")]) == [QUEUED, JobState.SUCCEEDED]
    child_epoch = start_job(store, "c", "root-2", LEASE_MS) or 0
    assert store.children.open("c", child_epoch, [child("g", "c", 2)]) == [QUEUED]
    assert [store.jobs.costs(job_id).pending_calls for job_id in "jcg"] == [0, 0, 0]
    store.calls.settle("g", "sub-1", [settlement("open")])  # late, of its first run
    lowest = start_job(store, "g", "root-3", LEASE_MS) or 0
    assert store.calls.open("g", lowest, opens("paid", "other")) == ["settled", "new"]
    assert ledger(redis_client, "j")["children"] == 3
    finish_job(store, "j", epoch, ANSWERED)
    assert store.jobs.states(["c", "g"]) == [CANCELLED, CANCELLED]
    assert store.audits.job("j").differences == []


def test_a_job_that_waits_for_a_child_is_not_stalled(store: Store, redis_client: redis.Redis) -> None:
    tree(store, batch=True)
    for job_id in "jcg":
        redis_client.hset(f"rlm:job:{job_id}", "started_ms", 1)
        redis_client.delete(f"rlm:job:{job_id}:trace")
    assert store.batches.get("b").counts[RUNNING] == 1
    assert store.jobs.end_stalled("b", 1) == ["g"]
    assert store.jobs.states(["j", "c", "g"]) == [RUNNING, RUNNING, JobState.FAILED]


def test_the_rows_of_children(store: Store) -> None:
    epochs = tree(store)
    store.children.open("j", epochs[0], [child(f"k{n}") for n in range(5)])
    store.calls.open("g", epochs[2], opens("a"))
    store.calls.settle("g", "sub-1", [settlement("a", nanousd=10**9)])
    rows = store.children.of("j")
    assert [row.id for row in rows] == ["c", "k0", "k1", "k2", "k3", "k4"]
    assert rows[0] == rows[0].model_copy(
        update={"state": RUNNING, "depth": 1, "custom_id": "c", "ended_ms": None, "turns": 0}
    )
    assert rows[0].started_ms
    assert rows[0].costs.total_cost == 1
    assert len(store.children.of("j", limit=2)) == 2
    assert store.children.of("g") == []


def test_calls_of_children_are_counted_once_in_the_backlog_and_in_the_batch(store: Store) -> None:
    epochs = tree(store, batch=True)
    for job_id, epoch in zip("jcg", epochs, strict=True):
        store.calls.open(job_id, epoch, opens("a", "b"))
        store.calls.claim(job_id, ["a"], "sub-1", LEASE_MS)
    store.workers.announce_requests("sub-1", {"j": 1, "g": 1}, LEASE_MS)
    backlog = store.backlog.read({})
    assert (backlog.calls_claimed, backlog.calls_waiting, backlog.jobs_running) == (3, 3, 3)
    batch = store.batches.get("b")
    assert (batch.calls_claimed, batch.calls_in_flight) == (3, 2)


def test_models_of_children_share_the_lines_of_the_jobs_above(store: Store) -> None:
    epochs = tree(store, batch=True)
    for job_id, epoch in zip("cg", epochs[1:], strict=True):
        names = [f"{job_id}{n}" for n in range(20)]
        store.calls.open(job_id, epoch, opens(*names))
        store.calls.settle(job_id, "sub-1", [settlement(name, model=name) for name in names])
    for job_id in "jcg":
        assert len(store.jobs.model_costs(job_id)) <= 33
    assert len(store.batches.model_costs("b")) <= 33
    assert store.audits.job("j").differences == []


def test_a_call_of_a_child_that_is_lost_or_given_back_is_in_flight_nowhere(
    store: Store, redis_client: redis.Redis
) -> None:
    epochs = tree(store, batch=True)
    store.calls.open("g", epochs[2], opens("lost", "back"))
    store.calls.claim("g", ["lost"], "dead", SHORT_MS)
    store.calls.claim("g", ["back"], "sub-1", LEASE_MS)
    assert [ledger(redis_client, name)["in_flight"] for name in "bjcg"] == [2, 2, 2, 2]
    assert wait_until(lambda: store.calls.lost("g", ["lost"], LEASE_MS)) == ["lost"]
    store.calls.settle("g", "sub-1", [Settlement("back", Role.SUB, "", None, returned="", retries=2)])
    assert [ledger(redis_client, name).get("in_flight", 0) for name in "bjcg"] == [0, 0, 0, 0]
    assert [ledger(redis_client, name)["retries"] for name in "bjcg"] == [2, 2, 2, 2]
    store.calls.claim("g", ["back"], "sub-1", LEASE_MS)
    running = [job.parent_id for job in store.jobs.running()]
    assert sorted(running, key=str) == [None, "c", "j"]
