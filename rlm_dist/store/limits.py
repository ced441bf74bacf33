"""What all processes together may call at one place, an endpoint and model, and each one's share of it.

A process reports what it has in flight and what it wants, and gets its share, which is its own for the length
of its lease: within it calls start and end without a word to Redis. ``lua/limits_share.lua`` deals the
shares, ``lua/prelude_limits_cuts.lua`` and ``prelude_limits_raises.lua`` find how many calls the endpoint
takes, and ``lua/prelude_limits_circuit.lua`` waits while it is away.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from rlm_dist.models import Wire
from rlm_dist.store import keys
from rlm_dist.store.link import Link


@dataclass(frozen=True)
class Place:
    """An endpoint (its URL without user, password and query) and a model."""

    url: str
    model: str

    @property
    def id(self) -> str:
        """Its part of the names of its keys."""
        return hashlib.blake2b(f"{self.url}\n{self.model}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Ceilings:
    """What the operator allows at each place, over all workers; None: as much as the endpoint takes."""

    in_flight: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None

    @property
    def rates(self) -> bool:
        """Whether what may start in a minute is limited."""
        return self.requests_per_min is not None or self.tokens_per_min is not None


@dataclass(frozen=True)
class Report:
    """What one process has done at a place since its report before; ``number`` counts its reports.

    - ``wanted``: the most calls that were in flight or waiting at once; 0 gives everything back.
    - ``waiting``: the calls that wait; ``waiting_tokens``: the estimates of the first of them, if rates are
      limited.
    - ``started``: the calls of ``epoch``, those that started since that cut; ``refused``: those of them that
      a 429 refused; ``answered``: the others that ended; ``retry_after_s``: the longest time that the refused
      are to wait.
    - ``late``: refusals of older calls. ``ended``: all attempts that ended.
    - ``blocked_s``: for how long the endpoint said that it wants no calls.
    - ``heard``: something answered; ``failing_s``: for how long nothing has, after several attempts in a row.
    - ``extra_tokens``: those that calls used beyond their estimates.
    """

    number: int
    in_flight: int
    wanted: int
    waiting: int = 0
    epoch: int = 0
    started: int = 0
    refused: int = 0
    answered: int = 0
    late: int = 0
    retry_after_s: float = 0.0
    ended: int = 0
    blocked_s: float = 0.0
    heard: bool = False
    failing_s: float = 0.0
    extra_tokens: int = 0
    waiting_tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Share:
    """What one process may do at a place until its lease ends.

    ``starts`` is how many of the calls it reported as waiting may start, None if no rate is limited; more may
    after ``wait_s``. ``away_s`` is how long nothing has been heard of the endpoint, 0 if it is not away; the
    next call is to try after ``try_s``.
    """

    in_flight: int
    epoch: int
    blocked_s: float = 0.0
    starts: int | None = None
    wait_s: float = 0.0
    away_s: float = 0.0
    try_s: float = 0.0


class PlaceState(Wire):
    """What the workers believe of a place, for people.

    ``limit`` is how many calls may be in flight; ``found`` says that refusals have shown it.
    ``*_last_minute`` count attempts and refusals.
    """

    url: str
    model: str
    limit: int
    found: bool
    in_flight: int
    waiting: int
    ended_last_minute: int
    refused_last_minute: int
    blocked_s: float
    away_since_ms: int | None
    next_try_s: float


class Limits(Link):
    """The part of the store that knows the shared limits."""

    def share(self, place: Place, holder: str, report: Report, ceilings: Ceilings, lease_ms: int) -> Share:
        """Hand in a report, and get what this process may do now."""
        limits = (ceilings.in_flight, ceilings.requests_per_min, ceilings.tokens_per_min)
        allowed, epoch, blocked_ms, starts, wait_ms, away_ms, try_ms = self._script(
            "limits_share",
            keys.limit_keys(place.id),
            *share_arguments(place, holder, report, limits, lease_ms),
        )
        return share_of(allowed, epoch, blocked_ms, starts, wait_ms, away_ms, try_ms)

    def away_urls(self) -> set[str]:
        """The endpoints of which nothing is heard at present."""
        return set(self._reach(lambda: self._client.hvals(keys.AWAY)))

    def places(self) -> list[PlaceState]:
        """What the workers believe of each place that they have called lately."""
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.PLACES, 0, -1))

        def read() -> list[dict[str, str]]:
            pipe = self._client.pipeline(transaction=False)
            for place_id in ids:
                for key in keys.limit_keys(place_id)[:2]:
                    pipe.hgetall(key)
            return list(pipe.execute())

        now_ms = self.now_ms()
        found = self._reach(read) if ids else []
        states = [
            _state(place, holders, now_ms)
            for place, holders in zip(found[::2], found[1::2], strict=True)
            if place
        ]
        return sorted(states, key=lambda state: (state.url, state.model))


def share_arguments(
    place: Place, holder: str, report: Report, limits: tuple[int | None, ...], lease_ms: int
) -> list[str | int]:
    """The arguments of ``lua/limits_share.lua``."""
    return [
        *(place.id, place.url, place.model, holder, lease_ms),
        *("" if limit is None else limit for limit in limits),
        *(report.number, report.in_flight, report.wanted, report.waiting),
        *(report.epoch, report.started, report.refused, report.answered, report.late),
        *(round(report.retry_after_s * 1000), report.ended, round(report.blocked_s * 1000)),
        *(int(report.heard), round(report.failing_s * 1000), report.extra_tokens),
        *report.waiting_tokens,
    ]


def share_of(
    allowed: int, epoch: int, blocked_ms: int, starts: int, wait_ms: int, away_ms: int, try_ms: int
) -> Share:
    """What ``lua/limits_share.lua`` returned."""
    return Share(
        in_flight=allowed,
        epoch=epoch,
        blocked_s=blocked_ms / 1000,
        starts=None if starts < 0 else starts,
        wait_s=wait_ms / 1000,
        away_s=away_ms / 1000,
        try_s=try_ms / 1000,
    )


def _state(place: Mapping[str, str], holders: Mapping[str, str], now_ms: int) -> PlaceState:
    live = [fields for text in holders.values() if int((fields := text.split())[1]) > now_ms]
    numbers = {name: float(value) for name, value in place.items() if name not in ("url", "model")}
    # The last minute is a part of the one before this one, and what there is of this one.
    age = now_ms / 60_000 - numbers.get("minute", 0)
    now, before = (1.0, 1 - age) if age < 1 else (max(0.0, 2 - age), 0.0)
    ended = now * numbers.get("ended", 0) + before * numbers.get("before", 0)
    refused = now * numbers.get("ended_refused", 0) + before * numbers.get("before_refused", 0)
    away_ms = int(numbers.get("away_ms", 0))
    return PlaceState(
        url=place["url"],
        model=place["model"],
        limit=int(numbers["cap"]),
        found=numbers.get("epoch", 0) > 0,
        in_flight=sum(int(each[2]) for each in live),
        waiting=sum(int(each[6]) for each in live),
        ended_last_minute=round(ended),
        refused_last_minute=round(refused),
        blocked_s=max(0.0, (numbers.get("blocked_ms", 0) - now_ms) / 1000),
        away_since_ms=away_ms or None,
        next_try_s=max(0.0, (numbers.get("next_ms", 0) - now_ms) / 1000) if away_ms else 0.0,
    )
