"""Tasks that wait hold no thread, and Celery hears of their end when it is there."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import Reject

from rlm_dist.broker.pool import DeferredEndPool, End, defer_end
from tests.support.waiting import wait_until


@pytest.fixture
def pool() -> Iterator[DeferredEndPool]:
    """A pool for 1,000 tasks."""
    made = DeferredEndPool(1000)
    yield made
    made.on_stop()


def test_a_thousand_waiting_tasks_hold_few_threads(pool: DeferredEndPool) -> None:
    """None ends before its end is there, and then each ends once."""
    ends: list[End] = []
    outcomes: list[Any] = []

    def task() -> tuple[int, str, float]:
        assert defer_end(ends.append)
        return 0, "None", 0.0

    before = threading.active_count()
    for _ in range(1000):
        pool.on_apply(task, callback=outcomes.append)
    wait_until(lambda: len(ends) == 1000)
    assert threading.active_count() - before <= 8
    assert outcomes == []
    for end in ends:
        end(None)
    wait_until(lambda: len(outcomes) == 1000)
    assert {(failed, value) for failed, value, _ in outcomes} == {(0, "None")}


def test_a_task_ends_with_the_error_that_is_passed(pool: DeferredEndPool) -> None:
    """That is how its message is given back."""
    given_back = Reject("the worker stops", requeue=True)
    outcomes: list[Any] = []

    def task() -> tuple[int, str, float]:
        defer_end(lambda end: end(given_back))
        return 0, "None", 0.0

    pool.on_apply(task, callback=outcomes.append)
    (failed, information, _), *others = wait_until(lambda: outcomes)
    assert (failed, others) == (True, [])
    assert information.exception.exc is given_back


def test_a_task_that_fails_or_defers_nothing_ends_as_it_would_elsewhere(pool: DeferredEndPool) -> None:
    """What one task put off is not taken for the next one of its thread."""
    outcomes: list[Any] = []

    def failing() -> None:
        defer_end(lambda end: end(None))
        raise ValueError("no")

    for _ in range(8):
        pool.on_apply(failing, callback=outcomes.append)
    for _ in range(8):
        pool.on_apply(lambda: (0, "done", 1.5), callback=outcomes.append)
    pool.on_stop()
    assert outcomes == [(0, "done", 1.5)] * 8


def test_the_pool_stops_when_the_last_task_has_ended() -> None:
    """So its message is acknowledged before the worker closes its connection."""
    pool, ends, outcomes = DeferredEndPool(10), list[End](), list[Any]()

    def task() -> tuple[int, str, float]:
        defer_end(ends.append)
        return 0, "None", 0.0

    pool.on_apply(task, callback=outcomes.append)
    wait_until(lambda: ends)
    stopping = threading.Thread(target=pool.on_stop)
    stopping.start()
    assert stopping.is_alive()
    ends[0](None)
    stopping.join()
    assert len(outcomes) == 1


def test_outside_of_the_pool_nothing_is_deferred() -> None:
    """The task then waits in its thread."""
    assert not defer_end(lambda end: end(None))
