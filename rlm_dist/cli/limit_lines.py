"""The workers' current view of the endpoints that they call, one line each."""

import time
from collections.abc import Iterable, Iterator

from rlm_dist.cli.output import duration
from rlm_dist.operations.trace_text import calls
from rlm_dist.schema.limits import ScopeState

_SOON_S = 0.5


def limit_lines(scopes: Iterable[ScopeState]) -> Iterator[str]:
    """A line for each endpoint and model that has calls waiting or in flight, or is away."""
    for scope in scopes:
        if scope.in_flight or scope.waiting or scope.away_since_ms:
            yield f"{scope.url} {scope.model}: {endpoint_state(scope)}"


def endpoint_state(scope: ScopeState) -> str:
    """What the workers may do now at an endpoint and model."""
    if scope.away_since_ms:
        since = time.strftime("%H:%M", time.localtime(scope.away_since_ms / 1000))
        is_due = scope.next_try_s < _SOON_S
        next_try = "the next call is to try" if is_due else f"next try in {duration(scope.next_try_s)}"
        return f"endpoint away since {since}, {next_try}"
    source = "found" if scope.found else "not reached yet"
    source = source if scope.may == scope.limit else "ceiling"
    ended = scope.ended_last_minute
    refused = f", {scope.refused_last_minute / ended:.1%} refused in the last minute" if ended else ""
    blocked = f", takes no calls for {duration(scope.blocked_s)}" if scope.blocked_s else ""
    return (
        f"endpoint limit {scope.may} ({source}), {scope.in_flight:,} in flight, "
        f"{calls(scope.waiting, 'call')} {'waits' if scope.waiting == 1 else 'wait'}{refused}{blocked}"
    )
