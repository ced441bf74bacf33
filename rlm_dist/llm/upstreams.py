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

from rlm_dist.errors import DENIED, CallError, FailureKind
from rlm_dist.llm.connection import Connection
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.limiter import EndpointLimiter

_FAILURES = 3
_OUT_S = 30.0
_OUTAGES = frozenset({FailureKind.TRANSIENT, FailureKind.TIMEOUT})


@dataclass(eq=False)
class Upstream:
    """One endpoint: ``failures`` are those in a row; ``denied`` says that the last was of key or account."""

    endpoint: Endpoint
    connection: Connection
    failures: int = 0
    open_until: float = 0.0
    denied: bool = False

    def note(self, failure: CallError | None) -> None:
        """Learn from how an attempt ended."""
        self.denied = failure is not None and failure.kind in DENIED
        if self.denied:
            self.failures = _FAILURES
        elif failure is not None and failure.kind in _OUTAGES:
            self.failures += 1
        elif failure is None or failure.kind is not FailureKind.RATE:
            self.failures, self.open_until = 0, 0.0
        if self.failures >= _FAILURES:
            self.open_until = time.monotonic() + _OUT_S


class EndpointPool:
    """The endpoints of one role; ``limiter`` is the one before a model at an endpoint."""

    def __init__(self, pool: Sequence[Upstream], limiter: Callable[[str, str], EndpointLimiter]) -> None:
        self._upstreams = pool
        self._limiter = limiter

    @property
    def all(self) -> Sequence[Upstream]:
        """Every one, in the order of the settings."""
        return self._upstreams

    def limiter(self, upstream: Upstream, model: str) -> EndpointLimiter:
        """The limiter before what the model that a call asks for is called at ``upstream``."""
        return self._limiter(upstream.connection.shown, upstream.endpoint.named(model))

    def pick(self, model: str, tried: Collection[Upstream]) -> Upstream:
        """Where the next attempt goes; not to one that was tried, while there are others."""
        if len(self._upstreams) == 1:
            return self._upstreams[0]
        usable = self._usable(model)
        if not usable:
            return min(self._upstreams, key=lambda upstream: self._back_at(upstream, model))
        fresh = [upstream for upstream in usable if upstream not in tried] or usable
        free = [upstream for upstream in fresh if not self.limiter(upstream, model).crowded] or fresh
        picked = random.choices(free, [upstream.endpoint.weight for upstream in free])[0]
        if picked.failures >= _FAILURES:  # one call is enough to see whether it is back
            picked.open_until = time.monotonic() + _OUT_S
        return picked

    def elsewhere(self, upstream: Upstream, model: str) -> bool:
        """Whether another endpoint takes calls now."""
        return len(self._upstreams) > 1 and any(each is not upstream for each in self._usable(model))

    def all_deny(self) -> bool:
        """Whether each endpoint lately refused the key or the account."""
        now = time.monotonic()
        return all(upstream.denied and now < upstream.open_until for upstream in self._upstreams)

    def _usable(self, model: str) -> list[Upstream]:
        now = time.monotonic()
        return [
            upstream
            for upstream in self._upstreams
            if max(upstream.open_until, self.limiter(upstream, model).closed_until) <= now
        ]

    def _back_at(self, upstream: Upstream, model: str) -> tuple[bool, float]:
        """For an order: first those whose key is good, of them the one that is back soonest."""
        return upstream.denied, max(upstream.open_until, self.limiter(upstream, model).closed_until)
