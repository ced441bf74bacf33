"""Chooses the endpoint of a role for the next attempt, and keeps what this process has learnt about each.

The choice is random, by weight, among the endpoints that take calls now: those that did not ask to wait and
are not left out. Endpoints at which no call of this process waits come first. An endpoint is left out for a
while after several failed connections or answers in a row, or if it refuses the key or the account; then one
call tries it again. Each process learns this for itself: a single machine may lose its route to an endpoint.

Used only in the event loop of an ``LLM``, so it needs no locks.
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
_OPEN_S = 30.0
_OUTAGE_KINDS = frozenset({FailureKind.TRANSIENT, FailureKind.TIMEOUT})


@dataclass(eq=False)
class Upstream:
    """An endpoint with its consecutive ``failures``; ``denied``: the last refused the key or the account."""

    endpoint: Endpoint
    connection: Connection
    failures: int = 0
    open_until: float = 0.0
    denied: bool = False

    def note(self, failure: CallError | None) -> None:
        """Learn from the end of an attempt; None is a success."""
        self.denied = failure is not None and failure.kind in DENIED
        if self.denied:
            self.failures = _FAILURES
        elif failure is not None and failure.kind in _OUTAGE_KINDS:
            self.failures += 1
        elif failure is None or failure.kind is not FailureKind.RATE:
            self.failures, self.open_until = 0, 0.0
        if self.failures >= _FAILURES:
            self.open_until = time.monotonic() + _OPEN_S


class EndpointPool:
    """The endpoints of one role; ``limiter`` returns the limiter for an endpoint and model."""

    def __init__(self, upstreams: Sequence[Upstream], limiter: Callable[[str, str], EndpointLimiter]) -> None:
        self._upstreams = upstreams
        self._limiter = limiter

    @property
    def all(self) -> Sequence[Upstream]:
        """All endpoints, in the order of the settings."""
        return self._upstreams

    def limiter(self, upstream: Upstream, model: str) -> EndpointLimiter:
        """The limiter for ``upstream`` and its own name of the requested model."""
        return self._limiter(upstream.connection.shown_url, upstream.endpoint.named(model))

    def pick(self, model: str, tried: Collection[Upstream]) -> Upstream:
        """The endpoint for the next attempt; not one in ``tried``, as long as there are others."""
        if len(self._upstreams) == 1:
            return self._upstreams[0]
        usable = self._usable(model)
        if not usable:
            return min(self._upstreams, key=lambda upstream: self._back_at(upstream, model))
        untried = [upstream for upstream in usable if upstream not in tried] or usable
        free = [upstream for upstream in untried if not self.limiter(upstream, model).crowded] or untried
        choice = random.choices(free, [upstream.endpoint.weight for upstream in free])[0]
        if choice.failures >= _FAILURES:  # one call is enough to see whether it is back
            choice.open_until = time.monotonic() + _OPEN_S
        return choice

    def elsewhere(self, upstream: Upstream, model: str) -> bool:
        """Whether an endpoint other than ``upstream`` takes calls now."""
        return len(self._upstreams) > 1 and any(other is not upstream for other in self._usable(model))

    def all_deny(self) -> bool:
        """Whether every endpoint has recently refused the key or the account."""
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
        """A sort key: endpoints that accept the key first, among them the one that takes calls soonest."""
        return upstream.denied, max(upstream.open_until, self.limiter(upstream, model).closed_until)
