"""How often, and after what time, a failed model call is tried again; by kind of failure.

- rate: when the endpoint says so (the whole endpoint is held until then), else as transient; many attempts.
- transient and timeout: exponential backoff with full jitter, few attempts.
- everything else: never.
The call's deadline, a multiple of one attempt's, bounds them all.
"""

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from rlm_dist.errors import CallError, FailureKind


@dataclass(frozen=True)
class RetryPolicy:
    """The numbers of the retries; times in seconds."""

    attempts: int = 5
    rate_attempts: int = 20
    base_s: float = 0.5
    cap_s: float = 30.0
    deadline_factor: float = 3.0

    def delay_s(self, failure: CallError, attempt: int) -> float | None:
        """Seconds to wait after ``attempt`` (the first is 1) failed so; None: give up.

        A time that the endpoint told comes on top, see ``Connection.blocked_until``: the jitter here keeps
        the calls that it held from all coming back in the same instant.
        """
        allowed = self.rate_attempts if failure.kind is FailureKind.RATE else self.attempts
        if not failure.retryable or attempt >= allowed:
            return None
        return random.uniform(0, min(self.cap_s, self.base_s * 2 ** min(attempt - 1, 30)))


def told_delay_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that ``retry-after-ms`` or ``Retry-After`` (a number, or an HTTP date) asks to wait."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            delay_s = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if math.isfinite(delay_s):
            return max(0.0, delay_s)
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
