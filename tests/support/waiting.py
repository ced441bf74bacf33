"""Waiting for a state, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], *, timeout_s: float = 60.0) -> T:
    """Call ``predicate`` until it is true and return its value; fail the test after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not reached within {timeout_s} s"
        time.sleep(0.01)
    return value
