"""Ceilings that an operator sets while workers run, and the history of a scope, on a real server."""

from itertools import count

import pytest
import redis

from rlm_dist.errors import InputError
from rlm_dist.schema.limits import (
    Ceilings,
    LatencyQuantiles,
    Report,
    Scope,
    ScopeCeilings,
    Share,
    latency_bucket,
)
from rlm_dist.store import Store
from rlm_dist.store.keys import CEILINGS, limit_keys
from tests.support.store_values import LEASE_MS

SCOPE = Scope("http://e/v1", "m")
NONE = Ceilings()


class Reporter:
    """A process that reports on one scope."""

    def __init__(self, store: Store, name: str, settings: Ceilings = NONE) -> None:
        self._store, self._name, self._settings = store, name, settings
        self._numbers = count(1)

    def report(self, in_flight: int, wanted: int, *, number: int | None = None, **more: object) -> Share:
        """Report under a new number, or under the given one."""
        report = Report(number or next(self._numbers), in_flight, wanted, **more)  # type: ignore[arg-type]
        return self._store.limits.share(SCOPE, self._name, report, self._settings, LEASE_MS)


def set_ceilings(store: Store, **changes: int | None) -> ScopeCeilings:
    return store.limits.set_ceilings(SCOPE.url, SCOPE.model, changes)  # type: ignore[arg-type]


def test_a_ceiling_that_is_set_replaces_that_of_the_settings(store: Store) -> None:
    a = Reporter(store, "a", Ceilings(in_flight=10))
    assert a.report(0, 100).in_flight == 10
    set_ceilings(store, in_flight=3)
    assert a.report(0, 100).in_flight == 3
    set_ceilings(store, in_flight=20)
    assert a.report(0, 100).in_flight == 20
    set_ceilings(store, in_flight=None)
    assert a.report(0, 100).in_flight == 10


def test_each_ceiling_is_set_and_taken_back_alone(store: Store) -> None:
    assert set_ceilings(store, in_flight=3).ceilings == Ceilings(in_flight=3)
    assert set_ceilings(store, tokens_per_min=900).ceilings == Ceilings(in_flight=3, tokens_per_min=900)
    assert set_ceilings(store, in_flight=None, requests_per_min=60).ceilings == Ceilings(None, 60, 900)
    assert set_ceilings(store).ceilings == Ceilings(None, 60, 900)
    assert store.limits.ceilings() == [
        ScopeCeilings(url=SCOPE.url, model=SCOPE.model, ceilings=Ceilings(None, 60, 900))
    ]


def test_nothing_is_left_of_ceilings_that_are_taken_back(store: Store, redis_client: redis.Redis) -> None:
    set_ceilings(store, in_flight=3)
    assert redis_client.ttl(CEILINGS) == -1  # it outlives the scope, which is forgotten after an hour
    set_ceilings(store, in_flight=None)
    assert store.limits.ceilings() == []
    assert not redis_client.exists(CEILINGS)


def test_a_lowered_ceiling_gives_no_process_room_until_the_calls_above_it_have_ended(store: Store) -> None:
    a, b = Reporter(store, "a"), Reporter(store, "b")
    a.report(0, 20)
    a.report(8, 20)
    b.report(0, 20)
    b.report(8, 20)
    set_ceilings(store, in_flight=2)
    assert [a.report(8, 20).in_flight, b.report(8, 20).in_flight] == [0, 0]
    assert a.report(1, 20).in_flight == 0
    assert b.report(0, 20).in_flight <= 1
    shares = [a.report(0, 20).in_flight, b.report(0, 20).in_flight]
    assert sum(shares) == 2


def test_rates_are_set_for_processes_that_know_of_none(store: Store) -> None:
    a = Reporter(store, "a")
    assert a.report(0, 5).starts is None
    set_ceilings(store, requests_per_min=120)
    assert a.report(0, 5).starts == 0  # it did not say what waits
    share = a.report(0, 5, waiting_tokens=(1,) * 5)
    assert share.starts == 1
    assert share.wait_s > 0
    set_ceilings(store, requests_per_min=None)
    assert a.report(0, 5).starts is None


def test_of_all_processes_one_hears_that_the_ceilings_have_changed(store: Store) -> None:
    a, b = Reporter(store, "a"), Reporter(store, "b")
    assert [a.report(0, 1).ceilings, b.report(0, 1).ceilings] == [None, None]
    set_ceilings(store, in_flight=3)
    assert [a.report(0, 1).ceilings, b.report(0, 1).ceilings, a.report(0, 1).ceilings] == [
        *(Ceilings(in_flight=3), None, None)
    ]
    set_ceilings(store, in_flight=None)
    assert [b.report(0, 1).ceilings, a.report(0, 1).ceilings] == [Ceilings(), None]


def test_of_all_processes_one_hears_that_the_endpoint_is_away_and_that_it_is_back(store: Store) -> None:
    a, b = Reporter(store, "a"), Reporter(store, "b")
    assert [a.report(0, 1, failing_s=0.5).turn, b.report(0, 1, failing_s=0.5).turn] == ["away", ""]
    assert [b.report(0, 1, heard=True).turn, a.report(0, 1, heard=True).turn] == ["back", ""]


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://e/v1/", SCOPE.url),
        ("http://me:secret@e/v1?key=abc", SCOPE.url),
        ("https://e:8443/v1", "https://e:8443/v1"),
    ],
)
def test_an_address_is_that_of_its_scope(store: Store, url: str, same: str) -> None:
    assert store.limits.set_ceilings(url, "m", {"in_flight": 1}).url == same


def test_models_may_have_blanks_in_their_names(store: Store) -> None:
    store.limits.set_ceilings(SCOPE.url, "a model", {"in_flight": 1})
    assert [entry.model for entry in store.limits.ceilings()] == ["a model"]


@pytest.mark.parametrize("value", [0, -1, 2**53 + 1, True, 1.5, "2"])
def test_a_bad_ceiling_is_refused_by_name(store: Store, value: object) -> None:
    with pytest.raises(InputError, match="requests_per_min: must be a whole number"):
        set_ceilings(store, in_flight=2, requests_per_min=value)  # type: ignore[arg-type]
    assert store.limits.ceilings() == []


def test_an_unknown_ceiling_is_refused_by_name(store: Store) -> None:
    with pytest.raises(InputError, match="max_in_flight: is not a ceiling"):
        set_ceilings(store, max_in_flight=2)


@pytest.mark.parametrize("url", ["e/v1", "ftp://e/v1", "http://", "http://e/a b", "http://e/\x1b[1m", ""])
def test_a_bad_address_is_refused_by_name(store: Store, url: str) -> None:
    with pytest.raises(InputError, match="URL: must be an http"):
        store.limits.set_ceilings(url, "m", {"in_flight": 1})


@pytest.mark.parametrize("model", ["", " ", "a\nb"])
def test_a_bad_model_is_refused_by_name(store: Store, model: str) -> None:
    with pytest.raises(InputError, match="MODEL: must be"):
        store.limits.set_ceilings(SCOPE.url, model, {"in_flight": 1})


def test_a_state_shows_what_is_set_beside_what_the_settings_say(store: Store) -> None:
    a = Reporter(store, "a", Ceilings(in_flight=10, tokens_per_min=1000))
    a.report(0, 1)
    set_ceilings(store, in_flight=3)
    (state,) = store.limits.scopes()
    assert state.set_ceilings == Ceilings(in_flight=3)
    assert state.ceilings == Ceilings(in_flight=3, tokens_per_min=1000)
    assert (state.limit, state.may) == (32, 3)


def test_the_circuit_is_shown(store: Store, redis_client: redis.Redis) -> None:
    a = Reporter(store, "a")

    def circuit() -> str:
        (state,) = store.limits.scopes()
        return state.circuit

    a.report(0, 5)
    assert circuit() == "closed"
    a.report(0, 5, failing_s=0.5)
    assert circuit() == "open"
    redis_client.hset(limit_keys(SCOPE.id)[0], "next_ms", 1)
    assert circuit() == "trying"
    a.report(0, 5)
    a.report(1, 5)
    assert circuit() == "trying"


def test_a_minute_sums_up_the_reports_of_all_processes(store: Store) -> None:
    a, b = Reporter(store, "a"), Reporter(store, "b")
    fast, slow = latency_bucket(0.1), latency_bucket(10.0)
    a.report(0, 9, number=1, ended=10, refused=1, started=100, errors=2, latencies=((fast, 6), (slow, 1)))
    a.report(0, 9, number=1, ended=10, refused=1, started=100, errors=2, latencies=((fast, 6), (slow, 1)))
    b.report(5, 9, ended=3, late=1, latencies=((fast, 2),))
    (state,) = store.limits.scopes()
    minutes = state.history
    assert sum(minute.ended for minute in minutes) == 13
    assert sum(minute.refused for minute in minutes) == 2
    assert sum(minute.errors for minute in minutes) == 2
    assert max(minute.in_flight for minute in minutes) == 5
    assert minutes[-1].limit == 32
    assert state.latency is not None
    assert state.latency.answered == 9
    assert 0.09 < state.latency.p50_s < 0.11
    assert 9 < state.latency.p99_s < 11


def test_only_the_last_hour_is_kept(store: Store, redis_client: redis.Redis) -> None:
    history = limit_keys(SCOPE.id)[-1]
    seconds, _ = redis_client.time()
    minute = seconds // 60
    redis_client.hset(history, mapping={str(minute - age): "1 1 1 0 0 0:1" for age in (2, 59, 60, 61, 500)})
    Reporter(store, "a").report(0, 1, ended=1)
    assert len(redis_client.hkeys(history)) <= 3 + 1
    assert 0 < redis_client.ttl(history) <= 3600


def test_a_report_without_news_writes_no_history(
    store: Store, redis_client: redis.Redis, redis_admin: redis.Redis
) -> None:
    a, history = Reporter(store, "a"), limit_keys(SCOPE.id)[-1]
    a.report(3, 3, ended=1, latencies=((5, 1),))
    redis_admin.config_resetstat()
    a.report(3, 3)
    a.report(2, 3)
    stats = redis_client.info("commandstats")
    # The holder is written each time; a new minute in between may add one.
    assert stats["cmdstat_hset"]["calls"] <= 2 + 2
    assert redis_client.hlen(history) <= 2


def test_quantiles_of_no_calls_are_none() -> None:
    assert LatencyQuantiles.of({}) is None


@pytest.mark.parametrize("seconds", [0.002, 0.1, 1.0, 60.0, 900.0])
def test_a_latency_is_told_within_a_tenth(seconds: float) -> None:
    latency = LatencyQuantiles.of({latency_bucket(seconds): 1})
    assert latency is not None
    assert abs(latency.p50_s - seconds) <= 0.1 * seconds


def test_the_longest_latencies_have_a_bucket() -> None:
    assert latency_bucket(0.0) == latency_bucket(-1.0) == 0
    assert latency_bucket(1e9) == latency_bucket(1e6)
