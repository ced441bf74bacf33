"""When a failed call is tried again, and after how long."""

import time
from email.utils import formatdate

import pytest

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.retry import RetryPolicy, requested_delay_s

POLICY = RetryPolicy(attempts=5, rate_attempts=8, base_s=1.0, cap_s=6.0)


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [
        (FailureKind.TRANSIENT, 5),
        (FailureKind.TIMEOUT, 5),
        (FailureKind.RATE, 8),
        (FailureKind.INVALID, 1),
        (FailureKind.TOO_LONG, 1),
        (FailureKind.AUTH, 1),
        (FailureKind.QUOTA, 1),
        (FailureKind.UNKNOWN_MODEL, 1),
    ],
)
def test_the_kind_bounds_the_attempts(kind: FailureKind, attempts: int) -> None:
    failure = CallError(kind, "x")
    made = 1
    while POLICY.delay_s(failure, made) is not None:
        made += 1
    assert made == attempts


def test_the_backoff_doubles_up_to_its_cap_with_full_jitter() -> None:
    failure = CallError(FailureKind.RATE, "x")
    for attempt, most_s in [(1, 1), (2, 2), (3, 4), (4, 6), (7, 6)]:
        drawn = [POLICY.delay_s(failure, attempt) or 0 for _ in range(300)]
        assert 0 <= min(drawn) < most_s * 0.1
        assert most_s * 0.9 < max(drawn) <= most_s


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "2", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "2", "retry-after-ms": "x"}, 2.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m6.5s"}, 66.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "3"}, 3.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1444000000"}, 0.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6s"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "3", "retry-after": "1"}, 1.0),
    ],
)
def test_a_told_time_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert requested_delay_s(headers) == seconds


def test_a_told_date_is_a_time_from_now() -> None:
    delay_s = requested_delay_s({"retry-after": formatdate(time.time() + 3600, usegmt=True)})
    assert delay_s is not None
    assert 3500 < delay_s <= 3600
