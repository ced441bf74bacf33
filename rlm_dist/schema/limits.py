"""The limits that all workers share at one endpoint and model, and the reports that they send on it."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

from rlm_dist.errors import InputError
from rlm_dist.schema.base import Wire

CeilingName = Literal["in_flight", "requests_per_min", "tokens_per_min"]
Circuit = Literal["closed", "open", "trying"]
# Latencies are counted in buckets that grow by a fifth: n begins at 2 ** (n / 4) ms, the last at 18 hours.
_BUCKETS_PER_DOUBLING, _LAST_BUCKET = 4, 104


@dataclass(frozen=True)
class Scope:
    """An endpoint (its URL without user, password and query) and a model."""

    url: str
    model: str

    @classmethod
    def of(cls, url: str, model: str) -> Self:
        """The scope of an address as a user writes it; user, password and query are left out.

        Raises:
            InputError: if it cannot be the address of an endpoint, or there is no model.
        """
        parts = urlsplit(url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
            raise InputError(("URL: must be an http:// or https:// address",))
        if not model.strip() or not model.isprintable():
            raise InputError(("MODEL: must be the name of a model",))
        host = parts.netloc.rpartition("@")[2]
        return cls(urlunsplit((parts.scheme, host, parts.path, "", "")), model)

    @property
    def id(self) -> str:
        """The part of its Redis keys' names that identifies it."""
        return hashlib.blake2b(f"{self.url}\n{self.model}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Ceilings:
    """What the operator allows all workers together at each scope; None: as much as the endpoint takes."""

    in_flight: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None

    def over(self, others: "Ceilings") -> "Ceilings":
        """These ceilings; one that is not set here is that of ``others``."""
        return Ceilings(
            others.in_flight if self.in_flight is None else self.in_flight,
            others.requests_per_min if self.requests_per_min is None else self.requests_per_min,
            others.tokens_per_min if self.tokens_per_min is None else self.tokens_per_min,
        )


class ScopeCeilings(Wire):
    """The ceilings that an operator has set for a scope; None: that of the workers' settings holds."""

    url: str
    model: str
    ceilings: Ceilings


@dataclass(frozen=True)
class Report:
    """What one process has done at a scope since its previous report; ``number`` counts its reports.

    - ``wanted``: the most calls that were in flight or waiting at once; 0 gives everything back.
    - ``waiting``: the calls that wait; ``waiting_tokens``: the estimates of the first of them, if rates are
      limited.
    - ``epoch``: the number of times the limit had been cut. ``started``: the calls started since that cut;
      ``refused``: those of them that a 429 refused; ``retry_after_s``: the longest time that the refused ones
      are to wait; ``answered``: the others that ended.
    - ``late``: refusals of older calls. ``ended``: all attempts that ended.
    - ``blocked_s``: how long the endpoint asked to get no calls.
    - ``heard``: whether the endpoint answered at all; ``failing_s``: how long it has not, after several
      attempts in a row.
    - ``extra_tokens``: the tokens that calls used beyond their estimates.
    - ``errors``: attempts that got an error or no answer. ``latencies``: (bucket, number) of the calls that
      were answered, by the bucket of their latency; see ``latency_bucket``.
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
    errors: int = 0
    latencies: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Share:
    """What one process may do at a scope until its lease ends.

    ``starts`` is how many of the calls that it reported as waiting may start, None if no rate is limited;
    more may start after ``wait_s``. ``away_s`` is how long the endpoint has not answered, 0 if it is not
    away; the next call may try it after ``try_s``. ``turn`` says that this report showed that the endpoint
    is away, or back; ``ceilings`` are those that an operator has set, if this is the first report since then.
    Of all processes one gets each of these two.
    """

    in_flight: int
    epoch: int
    blocked_s: float = 0.0
    starts: int | None = None
    wait_s: float = 0.0
    away_s: float = 0.0
    try_s: float = 0.0
    turn: Literal["", "away", "back"] = ""
    ceilings: Ceilings | None = None


def latency_bucket(seconds: float) -> int:
    """The bucket of a latency: 0 is everything below about a millisecond."""
    if seconds <= 0.001:
        return 0
    return min(_LAST_BUCKET, math.floor(math.log2(seconds * 1000) * _BUCKETS_PER_DOUBLING))


class LatencyQuantiles(Wire):
    """Quantiles of the latencies of ``answered`` calls, in seconds, within a tenth of their values."""

    answered: int
    p50_s: float
    p90_s: float
    p99_s: float

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> "LatencyQuantiles | None":
        """The quantiles of a number of calls by bucket; None if there are no calls."""
        answered = sum(counts.values())
        if not answered:
            return None
        p50, p90, p99 = (_quantile_s(counts, answered * share) for share in (0.5, 0.9, 0.99))
        return cls(answered=answered, p50_s=p50, p90_s=p90, p99_s=p99)


def _quantile_s(counts: Mapping[int, int], rank: float) -> float:
    """The middle of the bucket that has the call of this rank."""
    below = 0
    for bucket in sorted(counts):
        below += counts[bucket]
        if below >= rank:
            break
    return float(f"{2 ** ((bucket + 0.5) / _BUCKETS_PER_DOUBLING) / 1000:.3g}")


class ScopeMinute(Wire):
    """One minute of a scope, which began at ``start_ms`` (Unix ms).

    ``limit`` is how many calls could be in flight at its end, ``in_flight`` the most that were. ``ended``
    counts attempts; ``refused`` (by a 429) and ``errors`` (an error or no answer) are among them.
    """

    start_ms: int
    limit: int
    in_flight: int
    ended: int
    refused: int
    errors: int
    latency: LatencyQuantiles | None


class ScopeState(Wire):
    """What the workers believe about a scope, for display.

    ``limit`` is how many calls may be in flight by what was learnt; ``found`` says that refusals have
    revealed it. ``ceilings`` hold beside it: ``set_ceilings``, which an operator has set, and otherwise
    those of the workers' settings. ``*_last_minute`` count attempts and refusals. ``circuit`` is open while
    the endpoint does not answer, and ``trying`` while a call is in flight all the same, or may start.
    ``latency`` is that of the last five minutes; ``history`` has the last minutes in which workers reported,
    the oldest first.
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
    ceilings: Ceilings = Ceilings()
    set_ceilings: Ceilings = Ceilings()
    circuit: Circuit = "closed"
    latency: LatencyQuantiles | None = None
    history: tuple[ScopeMinute, ...] = ()

    @property
    def may(self) -> int:
        """How many calls may be in flight now, over all workers."""
        return self.limit if self.ceilings.in_flight is None else min(self.limit, self.ceilings.in_flight)
