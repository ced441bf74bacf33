"""How fast a batch goes, from looking at it again and again."""

from collections import deque

from rlm_dist.schema import Costs, Wire

_MINUTE_MS = 60_000


class Rates(Wire):
    """Calls and tokens a minute."""

    calls: float
    tokens: float


class Pace:
    """Rates over the looks of the last minute."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, int, int]] = deque()

    def look(self, costs: Costs, now_ms: int) -> Rates | None:
        """Take note of what is used up to now; the rates, None at the first look."""
        calls = costs.root_llm_calls + costs.sub_llm_calls
        tokens = costs.root_llm_tokens + costs.sub_llm_tokens
        self._looks.append((now_ms, calls, tokens))
        while len(self._looks) > 2 and self._looks[1][0] <= now_ms - _MINUTE_MS:
            self._looks.popleft()
        began_ms, calls_then, tokens_then = self._looks[0]
        if now_ms <= began_ms:
            return None
        minutes = (now_ms - began_ms) / _MINUTE_MS
        return Rates(calls=(calls - calls_then) / minutes, tokens=(tokens - tokens_then) / minutes)
