"""What processes may call together: shares, cuts, quiet rounds and rates from a real server."""

from itertools import count, pairwise

import pytest
import redis

from rlm_dist.schema.limits import Ceilings, Report, Scope, Share
from rlm_dist.store import Store
from rlm_dist.store.keys import AWAY, limit_keys
from tests.support.store_values import LEASE_MS, SHORT_MS
from tests.support.waiting import wait_until

SCOPE = Scope("http://e/v1", "m")
FIRST = 32
NONE = Ceilings()
TEN = Ceilings(in_flight=10)


def cap_of(redis_client: redis.Redis) -> int:
    """The calls that all processes together may have in flight."""
    return int(redis_client.hget(limit_keys(SCOPE.id)[0], "cap") or 0)


class Process:
    """A process that reports on one scope."""

    def __init__(self, store: Store, name: str, ceilings: Ceilings = NONE, lease_ms: int = LEASE_MS) -> None:
        self._store, self._name, self._ceilings, self._lease_ms = store, name, ceilings, lease_ms
        self._numbers = count(1)

    def report(self, in_flight: int, wanted: int, *, number: int | None = None, **more: object) -> Share:
        """Report under a new number, or under the given one."""
        report = Report(number or next(self._numbers), in_flight, wanted, **more)  # type: ignore[arg-type]
        return self._store.limits.share(SCOPE, self._name, report, self._ceilings, self._lease_ms)


def grown(store: Store, redis_client: redis.Redis, cap: int) -> None:
    """A scope whose calls succeeded until its cap had grown to ``cap``."""
    Process(store, "before").report(0, 0)
    redis_client.hset(limit_keys(SCOPE.id)[0], mapping={"cap": cap, "good": cap, "fresh_ok": 1})


def test_the_first_to_come_has_room_for_more_than_it_wants(store: Store) -> None:
    share = Process(store, "a").report(0, 1)
    assert share == Share(in_flight=6, epoch=0)


def test_processes_never_have_more_than_the_cap_together(store: Store) -> None:
    """This holds even before a process that had more has released it."""
    a, b = Process(store, "a", TEN), Process(store, "b", TEN)
    assert a.report(0, 100).in_flight == 10
    assert b.report(0, 100).in_flight == 0
    assert a.report(10, 100).in_flight == 5
    assert b.report(0, 100).in_flight == 0
    assert a.report(5, 100).in_flight == 5
    assert b.report(0, 100).in_flight == 5


def test_what_one_does_not_want_others_have(store: Store) -> None:
    a, b, c = (Process(store, name, TEN) for name in "abc")
    a.report(2, 2)
    for process in (b, c, a, b, c):
        process.report(0, 2 if process is a else 100)
    assert [a.report(2, 2).in_flight, b.report(4, 100).in_flight, c.report(4, 100).in_flight] == [2, 4, 4]


def test_where_there_are_fewer_permits_than_processes_these_take_turns(
    store: Store, redis_client: redis.Redis
) -> None:
    one = Ceilings(in_flight=1)
    processes = [Process(store, name, one) for name in "abc"]
    had: set[int] = set()

    def everyone_had_it() -> bool:
        shares = [process.report(0, 5).in_flight for process in processes]
        assert sum(shares) <= 1
        had.update(index for index, share in enumerate(shares) if share)
        return len(had) == 3

    wait_until(everyone_had_it)


def test_a_process_that_wants_nothing_gives_its_share_back(store: Store) -> None:
    a, b = Process(store, "a", TEN), Process(store, "b", TEN)
    a.report(0, 100)
    assert b.report(0, 100).in_flight == 0
    a.report(0, 0)
    assert b.report(0, 100).in_flight == 10


def test_the_permits_of_a_process_that_died_come_back(store: Store) -> None:
    Process(store, "dead", TEN, lease_ms=SHORT_MS).report(10, 100)
    b = Process(store, "b", TEN)
    wait_until(lambda: b.report(0, 100).in_flight == 10)


def test_an_operators_ceiling_holds(store: Store) -> None:
    assert Process(store, "a", Ceilings(in_flight=3)).report(0, 100).in_flight == 3


def test_one_refusal_in_a_hundred_cuts_nothing(store: Store, redis_client: redis.Redis) -> None:
    grown(store, redis_client, 100)
    a = Process(store, "a")
    for _ in range(10):
        share = a.report(100, 200, started=100, refused=1, answered=99, retry_after_s=1.0)
    assert (share.in_flight, share.epoch, share.blocked_s) == (100, 0, 0.0)


def test_one_episode_cuts_once(store: Store, redis_client: redis.Redis) -> None:
    """Two processes have 50 calls each, 20 of them refused: the remaining 60 are the capacity."""
    grown(store, redis_client, 100)
    a, b = Process(store, "a"), Process(store, "b")
    for process in (a, b, a, b):
        process.report(50, 60)
    assert a.report(40, 60, started=50, refused=10).epoch == 1
    assert b.report(30, 60, started=50, refused=20).epoch == 1
    assert a.report(30, 60, epoch=1, late=10).in_flight == 28
    assert cap_of(redis_client) == 58


def test_a_late_refusal_of_an_earlier_episode_changes_nothing(
    store: Store, redis_client: redis.Redis
) -> None:
    grown(store, redis_client, 100)
    a = Process(store, "a")
    a.report(60, 100, started=100, refused=40)
    assert cap_of(redis_client) == 58
    redis_client.hincrby(limit_keys(SCOPE.id)[0], "cut_ms", -1000)  # as if a second had passed
    a.report(50, 100, epoch=0, started=5, refused=5, late=5)
    assert cap_of(redis_client) == 58
    a.report(50, 100, epoch=1, started=60, refused=20)
    assert cap_of(redis_client) == 49


def test_few_refusals_leave_most_of_what_was_lately_served(store: Store, redis_client: redis.Redis) -> None:
    """The refusals may be noise, while few calls are in flight because few are wanted."""
    grown(store, redis_client, 100)
    Process(store, "a").report(5, 100, started=20, refused=4)
    assert cap_of(redis_client) == 70


def test_nothing_grows_while_the_refusals_of_a_burst_come_in(store: Store, redis_client: redis.Redis) -> None:
    grown(store, redis_client, 100)
    a = Process(store, "a")
    assert a.report(60, 100, started=100, refused=40).in_flight == 58
    assert a.report(40, 100, epoch=1).in_flight == 40
    redis_client.hincrby(limit_keys(SCOPE.id)[0], "cut_ms", -1000)
    assert a.report(40, 100, epoch=1).in_flight == 58


def test_calls_that_are_all_refused_block_everybody(store: Store, redis_client: redis.Redis) -> None:
    """The block lasts as long as the endpoint said; then the earlier limit applies again."""
    grown(store, redis_client, 100)
    a, b = Process(store, "a"), Process(store, "b")
    a.report(90, 100, started=100, refused=10, retry_after_s=60.0)
    share = a.report(60, 100, epoch=1, started=20, refused=20, retry_after_s=60.0)
    assert 50 < share.blocked_s <= 60
    assert 50 < b.report(0, 1).blocked_s <= 60
    assert cap_of(redis_client) == 100


def test_quiet_windows_raise_the_cap_after_a_while(store: Store, redis_client: redis.Redis) -> None:
    grown(store, redis_client, 40)
    a = Process(store, "a")
    a.report(40, 100, started=40, refused=20)
    caps = []
    for _ in range(8):
        redis_client.hincrby(limit_keys(SCOPE.id)[0], "began_ms", -1000)  # as if a second had passed
        cap = cap_of(redis_client)
        a.report(cap, 100, epoch=1, started=cap, answered=cap)
        caps.append(cap_of(redis_client))
    assert caps == [39, 39, 39, 42, 48, 60, 89, 134]


def test_a_step_up_that_is_refused_is_taken_back(store: Store, redis_client: redis.Redis) -> None:
    grown(store, redis_client, 40)
    redis_client.hset(limit_keys(SCOPE.id)[0], mapping={"epoch": 1, "step": 0.06, "cap": 42})
    Process(store, "a").report(40, 100, epoch=1, started=3, refused=2)
    assert cap_of(redis_client) == 39


def test_a_window_without_enough_calls_raises_nothing(store: Store, redis_client: redis.Redis) -> None:
    grown(store, redis_client, 40)
    redis_client.hset(limit_keys(SCOPE.id)[0], mapping={"epoch": 1, "step": 0.06, "began_ms": 1})
    a = Process(store, "a")
    a.report(40, 100, epoch=1, started=39)
    assert cap_of(redis_client) == 40
    a.report(40, 100, epoch=1, started=1)
    assert cap_of(redis_client) > 40


def test_before_the_first_refusal_the_cap_doubles_with_time(store: Store, redis_client: redis.Redis) -> None:
    a, caps = Process(store, "a"), [FIRST]

    def grown_to_eight() -> bool:
        caps.append(a.report(caps[-1], 1000).in_flight)
        return caps[-1] == 8 * FIRST

    wait_until(grown_to_eight)
    assert set(caps) == {FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST}


def test_a_cap_that_is_not_used_is_not_raised(store: Store, redis_client: redis.Redis) -> None:
    a = Process(store, "a")
    a.report(1, 1000)
    redis_client.hincrby(limit_keys(SCOPE.id)[0], "began_ms", -1000)
    assert a.report(FIRST // 2, 1000).in_flight == FIRST


def test_before_the_first_refusal_there_is_room_for_one_more_process(
    store: Store, redis_client: redis.Redis
) -> None:
    """When all have used the cap, a burst of two finds room, though the first process takes some to spare."""
    a, b = Process(store, "a"), Process(store, "b")
    a.report(FIRST, FIRST)
    redis_client.hincrby(limit_keys(SCOPE.id)[0], "began_ms", -1000)
    for in_flight, wanted in ((FIRST, FIRST), (0, 0), (0, FIRST)):
        a.report(in_flight, wanted)
    assert b.report(0, FIRST // 4).in_flight >= FIRST // 4


def test_after_a_refusal_nothing_grows_that_nobody_wants(store: Store, redis_client: redis.Redis) -> None:
    grown(store, redis_client, 40)
    scope_key = limit_keys(SCOPE.id)[0]
    redis_client.hset(scope_key, mapping={"epoch": 1, "step": 0.06, "began_ms": 1})
    a = Process(store, "a")
    a.report(40, 40, epoch=1, started=40)
    assert cap_of(redis_client) == 40
    redis_client.hset(scope_key, "began_ms", 1)
    a.report(40, 41, epoch=1, started=40)
    assert cap_of(redis_client) > 40


def test_a_told_wait_is_everyones(store: Store) -> None:
    a, b = Process(store, "a"), Process(store, "b")
    a.report(1, 1, blocked_s=60.0)
    assert 50 < b.report(0, 1).blocked_s <= 60
    b.report(0, 1, blocked_s=1.0)
    assert a.report(1, 1).blocked_s > 50


def test_requests_a_minute_are_dealt_as_they_flow_in(store: Store) -> None:
    """At 120 a minute: two at once, then about two a second, over all processes."""
    limits = Ceilings(requests_per_min=120)
    a, b = Process(store, "a", limits), Process(store, "b", limits)
    first = a.report(0, 5, waiting_tokens=(1,) * 5)
    assert first.starts == 1
    assert 0 < first.wait_s <= 61 / 120
    assert b.report(0, 5, waiting_tokens=(1,) * 5).starts == 0
    wait_until(lambda: b.report(0, 5, waiting_tokens=(1,) * 5).starts == 1)


def test_tokens_are_reserved_by_estimate_and_settled_by_use(store: Store) -> None:
    limits = Ceilings(tokens_per_min=61_000)
    a = Process(store, "a", limits)
    assert a.report(0, 3, waiting_tokens=(600, 300, 300)).starts == 2
    assert 0 < a.report(2, 3, waiting_tokens=(300,)).wait_s <= 0.2
    assert a.report(2, 3, extra_tokens=5000, waiting_tokens=(300,)).wait_s > 4
    assert a.report(2, 3, extra_tokens=-5200, waiting_tokens=(300,)).starts == 1


def test_a_call_larger_than_what_flows_in_at_once_starts_all_the_same(store: Store) -> None:
    a = Process(store, "a", Ceilings(tokens_per_min=61_000))
    assert a.report(0, 1, waiting_tokens=(100_000,)).starts == 1
    assert a.report(1, 2, waiting_tokens=(1,)).wait_s > 90


def test_no_start_is_dealt_that_has_no_room_in_flight(store: Store) -> None:
    a = Process(store, "a", Ceilings(in_flight=2, requests_per_min=100_000))
    assert a.report(1, 9, waiting_tokens=(1,) * 8).starts == 1


@pytest.mark.parametrize("ceilings", [NONE, Ceilings(requests_per_min=61)])
def test_a_report_that_is_repeated_counts_once(
    store: Store, redis_client: redis.Redis, ceilings: Ceilings
) -> None:
    a = Process(store, "a", ceilings)
    told = {"ended": 3, "started": 9, "refused": 5, "extra_tokens": 7, "waiting_tokens": (1, 1)}
    first = a.report(4, 9, number=7, **told)
    state = redis_client.hgetall(limit_keys(SCOPE.id)[0])
    again = a.report(4, 9, number=7, **told)
    assert (again.in_flight, again.epoch, again.starts) == (first.in_flight, first.epoch, first.starts)
    assert redis_client.hgetall(limit_keys(SCOPE.id)[0]) == state


def test_an_outage_opens_the_circuit_for_all_and_any_answer_closes_it(
    store: Store, redis_client: redis.Redis
) -> None:
    a, b = Process(store, "a"), Process(store, "b")
    share = a.report(0, 5, failing_s=0.5)
    assert share.in_flight == 0
    assert 0.5 <= share.away_s <= 5
    assert 0 < share.try_s <= 1
    assert b.report(0, 5).in_flight == 0
    assert store.limits.away_urls() == {SCOPE.url}
    # Jobs stop their clocks by this list: a model that nobody calls any more must not stop them for long.
    assert 0 < redis_client.ttl(AWAY) <= 300
    tries = [b.report(0, 5), a.report(0, 5)]
    assert [each.in_flight for each in tries] == [0, 0]
    redis_client.hset(limit_keys(SCOPE.id)[0], "next_ms", 1)
    assert [b.report(0, 5).in_flight, a.report(0, 5).in_flight] == [1, 0]  # one call tests the endpoint
    assert b.report(0, 5, heard=True).away_s == 0
    assert a.report(0, 5).in_flight > 0
    assert store.limits.away_urls() == set()


def test_a_process_that_alone_hears_nothing_does_not_stop_the_others(
    store: Store, redis_client: redis.Redis
) -> None:
    """Until none of them has heard anything for some seconds."""
    a, b = Process(store, "a"), Process(store, "b")
    b.report(1, 1, heard=True)
    assert a.report(0, 5, failing_s=3600.0).away_s == 0
    assert b.report(1, 5).in_flight > 1
    redis_client.hincrby(limit_keys(SCOPE.id)[0], "alive_ms", -6000)  # as if six seconds had passed
    assert 6 <= a.report(0, 5, failing_s=3600.0).away_s < 60
    assert b.report(1, 5).in_flight == 0


def test_pauses_between_tries_grow_to_a_minute(store: Store, redis_client: redis.Redis) -> None:
    a = Process(store, "a")
    a.report(0, 5, failing_s=0.5)
    pauses = []
    for _ in range(12):
        redis_client.hset(limit_keys(SCOPE.id)[0], "next_ms", 1)
        assert a.report(0, 5, failing_s=0.5).in_flight == 1
        pauses.append(a.report(0, 5, failing_s=0.5).try_s)
    assert all(later > earlier - 0.1 for earlier, later in pairwise(pauses))
    assert 1 < pauses[0] <= 1.5
    assert 59 < pauses[-1] <= 60


def test_operators_see_what_is_believed_of_each_place(store: Store, redis_client: redis.Redis) -> None:
    grown(store, redis_client, 100)
    a = Process(store, "a")
    a.report(60, 100, waiting=40, started=100, refused=40, ended=90)
    (state,) = store.limits.scopes()
    assert (state.url, state.model) == (SCOPE.url, SCOPE.model)
    assert (state.limit, state.found, state.in_flight, state.waiting) == (58, True, 60, 40)
    assert (state.ended_last_minute, state.refused_last_minute) == (90, 40)
    assert (state.away_since_ms, state.next_try_s) == (None, 0.0)
    a.report(0, 100, failing_s=1.0)
    (state,) = store.limits.scopes()
    assert state.away_since_ms is not None
    assert 0 < state.next_try_s <= 1


def test_every_key_has_an_end(store: Store, redis_client: redis.Redis) -> None:
    Process(store, "a").report(1, 1)
    assert all(redis_client.ttl(key) > 0 for key in redis_client.scan_iter())
