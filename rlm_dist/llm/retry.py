"""How often and after what delay a failed model call is tried again, by kind of failure.

- rate: after the delay that the endpoint asks for, else as transient; many attempts.
- transient and timeout: exponential backoff with full jitter, few attempts.
- everything else: never.
The call's deadline, a multiple of the time for one attempt, bounds all attempts together.
"""

import math
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from rlm_dist.errors import CallError, FailureKind

_LIMIT_SUFFIXES = ("", "-requests", "-tokens")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")
_UNITS_S = (86_400, 3600, 60, 1, 0.001)
_UNIX_S, _UNIX_MS = 1e9, 1e12


@dataclass(frozen=True)
class RetryPolicy:
    """How many attempts a call gets, and the delays between them; times in seconds."""

    attempts: int = 5
    rate_attempts: int = 20
    base_s: float = 0.5
    cap_s: float = 30.0
    deadline_factor: float = 3.0

    def delay_s(self, failure: CallError, attempt: int) -> float | None:
        """Seconds to wait after ``attempt`` (the first is 1) failed with ``failure``; None: give up.

        At least the delay that the endpoint asked for, and up to a fifth of it longer, so that calls that
        were refused together do not come back at the same moment.
        """
        limit = self.rate_attempts if failure.kind is FailureKind.RATE else self.attempts
        if not failure.retryable or attempt >= limit:
            return None
        backoff_s = random.uniform(0, min(self.cap_s, self.base_s * 2 ** min(attempt - 1, 30)))
        return max(backoff_s, (failure.retry_after_s or 0.0) * random.uniform(1, 1.2))


def requested_delay_s(headers: Mapping[str, str]) -> float | None:
    """How long the endpoint wants no calls, in seconds.

    From ``retry-after-ms`` or ``Retry-After`` (a number, or an HTTP date), else from the ``x-ratelimit-*``
    headers: the time until a limit that is used up is reset.
    """
    retry_after_s = _retry_after_s(headers)
    if retry_after_s is not None:
        return retry_after_s
    resets = [
        _reset_s(headers.get(f"x-ratelimit-reset{suffix}", ""))
        for suffix in _LIMIT_SUFFIXES
        if headers.get(f"x-ratelimit-remaining{suffix}") == "0"
    ]
    return max((reset_s for reset_s in resets if reset_s is not None), default=None)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        delay_s = _number(headers.get(name, ""))
        if delay_s is not None:
            return max(0.0, delay_s * unit_s)
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _reset_s(value: str) -> float | None:
    """The seconds in a reset header: ``1m6.5s``, ``20ms``, a number of seconds, or a Unix time."""
    number = _number(value)
    if number is not None:
        unix_s = number / 1000 if number > _UNIX_MS else number
        return max(0.0, unix_s - time.time() if number > _UNIX_S else number)
    parts = _DURATION.fullmatch(value)
    if not value or parts is None:
        return None
    return sum(float(n) * unit_s for n, unit_s in zip(parts.groups("0"), _UNITS_S, strict=True))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
