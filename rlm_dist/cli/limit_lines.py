"""What the workers believe of the endpoints that they call, in a line each."""

import time
from collections.abc import Iterable, Iterator

from rlm_dist.cli.output import duration
from rlm_dist.operations.trace_text import calls
from rlm_dist.schema.limits import ScopeState

_SOON_S = 0.5


def limit_lines(places: Iterable[ScopeState]) -> Iterator[str]:
    """Each endpoint and model that calls wait for or are in flight to, or that is away."""
    for place in places:
        if place.in_flight or place.waiting or place.away_since_ms:
            yield f"{place.url} {place.model}: {_state(place)}"


def _state(place: ScopeState) -> str:
    if place.away_since_ms:
        since = time.strftime("%H:%M", time.localtime(place.away_since_ms / 1000))
        soon = place.next_try_s < _SOON_S
        again = "trying now" if soon else f"next try in {duration(place.next_try_s)}"
        return f"endpoint away since {since}, {again}"
    source = "found" if place.found else "not reached yet"
    ended = place.ended_last_minute
    refused = f", {place.refused_last_minute / ended:.1%} refused in the last minute" if ended else ""
    blocked = f", takes no calls for {duration(place.blocked_s)}" if place.blocked_s else ""
    return (
        f"endpoint limit {place.limit} ({source}), {place.in_flight:,} in flight, "
        f"{calls(place.waiting, 'call')} {'waits' if place.waiting == 1 else 'wait'}{refused}{blocked}"
    )
