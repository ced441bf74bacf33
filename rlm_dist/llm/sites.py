"""Which of a role's endpoints the next attempt goes to, and what this process has learnt of each.

By weight at random among those that take calls now: not told to wait, not left out, and without calls of
this process that wait there already. An endpoint is left out for a while when its connections or answers fail
several times in a row, or when it refuses the key or the account; then one call tries it anew. Each process
learns that by itself: an endpoint may be out of reach of one machine alone.

Used in the event loop of an ``LLM``, hence without locks.
"""

import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rlm_dist.endpoints import Endpoint
from rlm_dist.errors import DENIED, CallError, FailureKind
from rlm_dist.limits import Gate
from rlm_dist.llm.connection import Connection

_FAILURES = 3
_OUT_S = 30.0
_OUTAGES = frozenset({FailureKind.TRANSIENT, FailureKind.TIMEOUT})


@dataclass(eq=False)
class Site:
    """One endpoint: ``failures`` are those in a row; ``denied`` says that the last was of key or account."""

    endpoint: Endpoint
    connection: Connection
    failures: int = 0
    out_until: float = 0.0
    denied: bool = False

    def note(self, failure: CallError | None) -> None:
        """Learn from how an attempt ended."""
        self.denied = failure is not None and failure.kind in DENIED
        if self.denied:
            self.failures = _FAILURES
        elif failure is not None and failure.kind in _OUTAGES:
            self.failures += 1
        elif failure is None or failure.kind is not FailureKind.RATE:
            self.failures, self.out_until = 0, 0.0
        if self.failures >= _FAILURES:
            self.out_until = time.monotonic() + _OUT_S


class Sites:
    """The endpoints of one role; ``gate`` is the one before a model at an endpoint."""

    def __init__(self, sites: Sequence[Site], gate: Callable[[str, str], Gate]) -> None:
        self._sites = sites
        self._gate = gate

    @property
    def all(self) -> Sequence[Site]:
        """Every one, in the order of the settings."""
        return self._sites

    def gate(self, site: Site, model: str) -> Gate:
        """The gate before what the model that a call asks for is called at ``site``."""
        return self._gate(site.connection.shown, site.endpoint.named(model))

    def pick(self, model: str, tried: Collection[Site]) -> Site:
        """Where the next attempt goes; not to one that was tried, while there are others."""
        if len(self._sites) == 1:
            return self._sites[0]
        usable = self._usable(model)
        if not usable:
            return min(self._sites, key=lambda site: self._back_at(site, model))
        fresh = [site for site in usable if site not in tried] or usable
        free = [site for site in fresh if not self.gate(site, model).crowded] or fresh
        picked = random.choices(free, [site.endpoint.weight for site in free])[0]
        if picked.failures >= _FAILURES:  # one call is enough to see whether it is back
            picked.out_until = time.monotonic() + _OUT_S
        return picked

    def elsewhere(self, site: Site, model: str) -> bool:
        """Whether another endpoint takes calls now."""
        return len(self._sites) > 1 and any(each is not site for each in self._usable(model))

    def all_deny(self) -> bool:
        """Whether each endpoint lately refused the key or the account."""
        now = time.monotonic()
        return all(site.denied and now < site.out_until for site in self._sites)

    def _usable(self, model: str) -> list[Site]:
        now = time.monotonic()
        return [
            site for site in self._sites if max(site.out_until, self.gate(site, model).closed_until) <= now
        ]

    def _back_at(self, site: Site, model: str) -> tuple[bool, float]:
        """For an order: first those whose key is good, of them the one that is back soonest."""
        return site.denied, max(site.out_until, self.gate(site, model).closed_until)
