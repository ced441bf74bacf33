"""The limits that all workers share at one endpoint and model, and the reports that they send on it."""

import hashlib
from dataclasses import dataclass

from rlm_dist.schema.base import Wire


@dataclass(frozen=True)
class Scope:
    """An endpoint (its URL without user, password and query) and a model."""

    url: str
    model: str

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

    @property
    def rates(self) -> bool:
        """Whether the calls or tokens that may start in a minute are limited."""
        return self.requests_per_min is not None or self.tokens_per_min is not None


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
    """What one process may do at a scope until its lease ends.

    ``starts`` is how many of the calls that it reported as waiting may start, None if no rate is limited;
    more may start after ``wait_s``. ``away_s`` is how long the endpoint has not answered, 0 if it is not
    away; the next call may try it after ``try_s``.
    """

    in_flight: int
    epoch: int
    blocked_s: float = 0.0
    starts: int | None = None
    wait_s: float = 0.0
    away_s: float = 0.0
    try_s: float = 0.0


class ScopeState(Wire):
    """What the workers believe about a scope, for display.

    ``limit`` is how many calls may be in flight; ``found`` says that refusals have revealed it.
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
