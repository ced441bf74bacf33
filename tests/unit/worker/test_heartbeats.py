"""Leases, and the outages during which they lapse."""

import time

from rlm_dist.worker.heartbeats import OutageDetector
from tests.support.waiting import wait_until


def test_a_round_that_comes_in_time_is_trusted() -> None:
    outages = OutageDetector(period_s=1000)
    assert outages.over()
    assert outages.over()


def test_after_a_round_that_came_late_leases_are_not_trusted_for_a_while() -> None:
    outages = OutageDetector(period_s=0.001)
    late = time.monotonic() + 0.01
    wait_until(lambda: time.monotonic() > late)
    assert not outages.over()
    assert not outages.over()


def test_a_pause_of_our_own_is_no_outage() -> None:
    outages = OutageDetector(period_s=0.05)
    late = time.monotonic() + 0.2
    wait_until(lambda: time.monotonic() > late)
    outages.begin()
    assert outages.over()
