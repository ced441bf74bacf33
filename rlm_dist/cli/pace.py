"""How fast a batch goes, from looking at it again and again."""

from collections.abc import Iterator

from rlm_dist.models import BatchRecord, Costs

_MINUTE_MS = 60_000


class Pace:
    """Rates since the first look: what ran before it says little about now."""

    def __init__(self) -> None:
        self._first: tuple[float, int, int] | None = None

    def lines(self, record: BatchRecord, ended: int, now_ms: float) -> Iterator[str]:
        """Tokens a minute, money so far and in the end, and the time left, as far as they can be told."""
        used = record.costs.root_llm_tokens + record.costs.sub_llm_tokens
        if self._first is None:
            self._first = (now_ms, ended, used)
        began_ms, ended_then, used_then = self._first
        minutes = (now_ms - began_ms) / _MINUTE_MS
        rate = f"{(used - used_then) / minutes:,.0f}" if minutes else "?"
        yield f"  pace  {rate} tokens/min, {_projected(record.costs, ended, record.total)}"
        newly, left = ended - ended_then, (record.total or 0) - ended
        if newly and left > 0:
            yield f"  left  about {_duration(minutes / newly * left)}"


def _projected(costs: Costs, ended: int, total: int | None) -> str:
    if costs.total_cost is None:
        return "cost unknown"
    so_far = f"${costs.total_cost:.4f} so far"
    if not ended or total is None:
        return so_far
    return f"{so_far}, about ${costs.total_cost / ended * total:.4f} in the end"


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{minutes * 60:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
