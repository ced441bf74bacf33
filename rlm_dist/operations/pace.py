"""The speed of a batch, from repeated samples of what it has used."""

from collections import deque

from rlm_dist.schema import Costs, Wire

_MINUTE_MS = 60_000


class Rates(Wire):
    """Calls and tokens per minute."""

    calls: float
    tokens: float


class Pace:
    """Rates over the samples of the last minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int, int]] = deque()

    def look(self, costs: Costs, now_ms: int) -> Rates | None:
        """Add a sample of what is used up to now; return the rates, None at the first sample."""
        calls = costs.root_llm_calls + costs.sub_llm_calls
        tokens = costs.root_llm_tokens + costs.sub_llm_tokens
        self._samples.append((now_ms, calls, tokens))
        while len(self._samples) > 2 and self._samples[1][0] <= now_ms - _MINUTE_MS:
            self._samples.popleft()
        start_ms, start_calls, start_tokens = self._samples[0]
        if now_ms <= start_ms:
            return None
        minutes = (now_ms - start_ms) / _MINUTE_MS
        return Rates(calls=(calls - start_calls) / minutes, tokens=(tokens - start_tokens) / minutes)
