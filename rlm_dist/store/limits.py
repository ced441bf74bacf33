"""What all processes together may call at one place, an endpoint and model, and each one's share of it.

A process reports what it has in flight and what it wants, and is told its share, which is its own for the
length of its lease: within it calls start and end without a word to Redis. ``lua/limits_share.lua`` deals.
"""

from dataclasses import dataclass

from rlm_dist.store import keys
from rlm_dist.store.link import Link


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

    ``wanted`` is the most calls that were in flight or waiting at once; 0 gives everything back.
    ``refused_epoch`` is the newest epoch of a call that was refused by a 429. ``blocked_s`` is for how long
    the endpoint told to send no calls. ``extra_tokens`` are those that calls used beyond their estimates.
    ``waiting`` are the estimated tokens of the calls that wait, in their order.
    """

    number: int
    in_flight: int
    wanted: int
    ended: int = 0
    refused_epoch: int | None = None
    blocked_s: float = 0.0
    extra_tokens: int = 0
    waiting: tuple[int, ...] = ()


@dataclass(frozen=True)
class Share:
    """What one process may do at a place until its lease ends.

    ``starts`` is how many of the calls it reported as waiting may start, None where no rate is limited; more
    may after ``wait_s``.
    """

    in_flight: int
    epoch: int
    blocked_s: float
    starts: int | None
    wait_s: float


class Limits(Link):
    """The part of the store that knows the shared limits."""

    def share(self, place: str, holder: str, report: Report, ceilings: Ceilings, lease_ms: int) -> Share:
        """Hand in a report, and hear what this process may do now."""
        limits = (ceilings.in_flight, ceilings.requests_per_min, ceilings.tokens_per_min)
        allowed, epoch, blocked_ms, starts, wait_ms = self._script(
            "limits_share",
            keys.limit_keys(place),
            holder,
            report.number,
            lease_ms,
            report.in_flight,
            report.wanted,
            report.ended,
            "" if report.refused_epoch is None else report.refused_epoch,
            round(report.blocked_s * 1000),
            *("" if limit is None else limit for limit in limits),
            report.extra_tokens,
            *report.waiting,
        )
        return Share(
            in_flight=allowed,
            epoch=epoch,
            blocked_s=blocked_ms / 1000,
            starts=None if starts < 0 else starts,
            wait_s=wait_ms / 1000,
        )
