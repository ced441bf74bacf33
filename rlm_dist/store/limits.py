"""How many calls all processes together may make in one scope (an endpoint and model), and each one's share.

A process reports its calls in flight and those it wants, and gets a share, which it holds under a lease.
Within its share it starts and ends calls without asking Redis. ``lua/limits_share.lua`` deals out the shares,
``lua/prelude_limits_cuts.lua`` and ``prelude_limits_raises.lua`` find how many calls the endpoint takes, and
``lua/prelude_limits_circuit.lua`` stops the calls while the endpoint does not answer. What an operator has
set replaces the ceilings that each process hands in.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

from rlm_dist.errors import InputError
from rlm_dist.schema.limits import (
    CeilingName,
    Ceilings,
    Circuit,
    LatencyQuantiles,
    Report,
    Scope,
    ScopeCeilings,
    ScopeMinute,
    ScopeState,
    Share,
)
from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart

_MOST = 2**53
_MINUTE_MS = 60_000
_LATENCY_MINUTES = 5


class LimitStore(StorePart):
    """The part of the store for the shared limits."""

    def share(self, scope: Scope, holder: str, report: Report, ceilings: Ceilings, lease_ms: int) -> Share:
        """Hand in the report of the process ``holder``; return what it may do now."""
        limits = (ceilings.in_flight, ceilings.requests_per_min, ceilings.tokens_per_min)
        arguments = share_arguments(scope, holder, report, limits, lease_ms)
        return share_of(*self._script("limits_share", keys.limit_keys(scope.id), *arguments))

    def set_ceilings(self, url: str, model: str, changes: Mapping[CeilingName, int | None]) -> ScopeCeilings:
        """Set these ceilings for all workers; None takes one back, those that are not named stay.

        They hold within a second, until they are taken back. The workers need not have called the endpoint.

        Raises:
            InputError: naming each argument with a bad value.
        """
        problems = tuple(_problems(changes))
        if problems:
            raise InputError(problems)
        scope = Scope.of(url, model)
        values = ["" if name not in changes else changes[name] or "-" for name in get_args(CeilingName)]
        text = self._script("ceilings_set", [keys.CEILINGS], scope.id, scope.url, scope.model, *values)
        return ScopeCeilings(url=scope.url, model=scope.model, ceilings=_ceilings(text))

    def ceilings(self) -> list[ScopeCeilings]:
        """The ceilings that operators have set, also those of scopes that nobody calls."""
        found: list[str] = self._reach(lambda: self._client.hvals(keys.CEILINGS))
        return sorted(map(_scope_ceilings, found), key=lambda entry: (entry.url, entry.model))

    def away_urls(self) -> set[str]:
        """The URLs of the endpoints that do not answer at present."""
        return set(self._reach(lambda: self._client.hvals(keys.AWAY)))

    def scopes(self, minutes: int = _LATENCY_MINUTES) -> list[ScopeState]:
        """What the workers believe about each scope that they have called lately.

        ``minutes`` is how much of its history is wanted, 60 at most.
        """
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.SCOPES, 0, -1))
        now_ms = self._now_ms()
        latest = [now_ms // _MINUTE_MS - age for age in range(max(minutes, _LATENCY_MINUTES))]

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.hgetall(keys.CEILINGS)
            for scope_id in ids:
                scope, holders, *_, history = keys.limit_keys(scope_id)
                pipe.hgetall(scope)
                pipe.hgetall(holders)
                pipe.hmget(history, list(map(str, latest)))
            return list(pipe.execute())

        if not ids:
            return []
        ceilings, *found = self._reach(read)
        states = [
            _state(
                fields,
                holders,
                {number: _minute(text) for number, text in zip(latest, history, strict=True) if text},
                ceilings.get(scope_id),
                now_ms,
            )
            for scope_id, fields, holders, history in zip(
                ids, found[::3], found[1::3], found[2::3], strict=True
            )
            if fields
        ]
        return sorted(states, key=lambda state: (state.url, state.model))


def share_arguments(
    scope: Scope, holder: str, report: Report, limits: tuple[int | None, ...], lease_ms: int
) -> list[str | int]:
    """The arguments of ``lua/limits_share.lua``."""
    return [
        *(scope.id, scope.url, scope.model, holder, lease_ms),
        *("" if limit is None else limit for limit in limits),
        *(report.number, report.in_flight, report.wanted, report.waiting),
        *(report.epoch, report.started, report.refused, report.answered, report.late),
        *(round(report.retry_after_s * 1000), report.ended, round(report.blocked_s * 1000)),
        *(int(report.heard), round(report.failing_s * 1000), report.extra_tokens, report.errors),
        " ".join(f"{bucket}:{n}" for bucket, n in report.latencies),
        *report.waiting_tokens,
    ]


def share_of(
    allowed: int,
    epoch: int,
    blocked_ms: int,
    starts: int,
    wait_ms: int,
    away_ms: int,
    try_ms: int,
    turn: Literal["", "away", "back"],
    ceilings: str,
) -> Share:
    """The share that ``lua/limits_share.lua`` returned."""
    return Share(
        in_flight=allowed,
        epoch=epoch,
        blocked_s=blocked_ms / 1000,
        starts=None if starts < 0 else starts,
        wait_s=wait_ms / 1000,
        away_s=away_ms / 1000,
        try_s=try_ms / 1000,
        turn=turn,
        ceilings=_ceilings(ceilings) if ceilings else None,
    )


def _problems(changes: Mapping[CeilingName, int | None]) -> Iterator[str]:
    for name, ceiling in changes.items():
        if name not in get_args(CeilingName):
            yield f"{name}: is not a ceiling"
        elif _is_bad(ceiling):
            yield f"{name}: must be a whole number from 1 to 2**53"


def _is_bad(ceiling: object) -> bool:
    is_number = isinstance(ceiling, int) and not isinstance(ceiling, bool)
    return ceiling is not None and not (is_number and 1 <= ceiling <= _MOST)  # type: ignore[operator]


def _ceilings(text: str) -> Ceilings:
    """Three words, each a number or ``-``."""
    return Ceilings(*(None if word == "-" else int(word) for word in text.split(" ", 3)[:3]))


def _scope_ceilings(text: str) -> ScopeCeilings:
    *_, url, model = text.split(" ", 4)
    return ScopeCeilings(url=url, model=model, ceilings=_ceilings(text))


class _Minute(NamedTuple):
    """A field of a scope's history, with the numbers of calls by bucket of latency."""

    limit: int
    in_flight: int
    ended: int
    refused: int
    errors: int
    latencies: Counter[int]


_NOTHING = _Minute(0, 0, 0, 0, 0, Counter())


def _minute(text: str) -> _Minute:
    limit, in_flight, ended, refused, errors, *latencies = text.split(" ")
    counts: Counter[int] = Counter()
    for entry in latencies:
        bucket, _, n = entry.partition(":")
        counts[int(bucket)] = int(n)
    return _Minute(int(limit), int(in_flight), int(ended), int(refused), int(errors), counts)


def _history(minutes: Mapping[int, _Minute]) -> Iterator[ScopeMinute]:
    for number, minute in sorted(minutes.items()):
        yield ScopeMinute(
            start_ms=number * _MINUTE_MS,
            limit=minute.limit,
            in_flight=minute.in_flight,
            ended=minute.ended,
            refused=minute.refused,
            errors=minute.errors,
            latency=LatencyQuantiles.of(minute.latencies),
        )


def _state(
    fields: Mapping[str, str],
    holders: Mapping[str, str],
    minutes: Mapping[int, _Minute],
    ceilings: str | None,
    now_ms: int,
) -> ScopeState:
    live = [columns for text in holders.values() if int((columns := text.split())[1]) > now_ms]
    numbers = {name: float(value) for name, value in fields.items() if name not in ("url", "model", "set")}
    this_minute = now_ms // _MINUTE_MS
    # Estimate the last 60 s from the counts of this minute and the end of the minute before it.
    now, before = minutes.get(this_minute, _NOTHING), minutes.get(this_minute - 1, _NOTHING)
    left = 1 - now_ms % _MINUTE_MS / _MINUTE_MS
    latest = [
        minute.latencies for number, minute in minutes.items() if number > this_minute - _LATENCY_MINUTES
    ]
    in_flight = sum(int(columns[2]) for columns in live)
    away_ms = int(numbers.get("away_ms", 0))
    next_try_s = max(0.0, (numbers.get("next_ms", 0) - now_ms) / 1000) if away_ms else 0.0
    settings = (
        int(numbers.get(f"settings_{name}", 0)) or None for name in ("in_flight", "requests", "tokens")
    )
    set_now = _ceilings(ceilings) if ceilings else Ceilings()
    return ScopeState(
        url=fields["url"],
        model=fields["model"],
        limit=int(numbers["cap"]),
        found=numbers.get("epoch", 0) > 0,
        in_flight=in_flight,
        waiting=sum(int(columns[6]) for columns in live),
        ended_last_minute=round(now.ended + left * before.ended),
        refused_last_minute=round(now.refused + left * before.refused),
        blocked_s=max(0.0, (numbers.get("blocked_ms", 0) - now_ms) / 1000),
        away_since_ms=away_ms or None,
        next_try_s=next_try_s,
        ceilings=set_now.over(Ceilings(*settings)),
        set_ceilings=set_now,
        circuit=_circuit(bool(away_ms), is_trying=in_flight > 0 or next_try_s == 0),
        latency=LatencyQuantiles.of(sum(latest, Counter())),
        history=tuple(_history(minutes)),
    )


def _circuit(is_away: bool, *, is_trying: bool) -> Circuit:
    if not is_away:
        return "closed"
    return "trying" if is_trying else "open"
