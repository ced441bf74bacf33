"""An idle pool stops at once, and one with a task as Celery's does."""

from types import SimpleNamespace
from typing import Any

import pytest
from billiard.pool import CLOSE, RUN
from celery.concurrency.prefork import TaskPool
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from rlm_dist.root_worker.pool import PromptPool, wake_main_loop
from tests.support.waiting import wait_until


def pool_with(tasks: dict[int, object], said: list[str]) -> PromptPool:
    """A pool of one process; what is asked of its parts goes to ``said``."""
    parts = SimpleNamespace(
        _state=RUN,
        _cache=tasks,
        _worker_handler=SimpleNamespace(close=lambda: said.append("starts no process")),
        _task_handler=None,
        _stop_task_handler=lambda _: said.append("processes told to end"),
        _pool=[SimpleNamespace(join=lambda: said.append("process awaited"))],
        _terminate=SimpleNamespace(cancel=lambda: said.append("nothing at exit")),
    )
    pool: Any = PromptPool.__new__(PromptPool)
    pool._pool = parts
    return pool  # type: ignore[no-any-return]


def test_an_idle_pool_ends_its_processes_and_waits_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(TaskPool, "on_stop", lambda _: said.append("celery's stop"))
    pool = pool_with({}, said)
    parts = pool._pool
    pool.on_stop()
    assert said == ["starts no process", "processes told to end", "process awaited", "nothing at exit"]
    assert parts._state == CLOSE
    assert pool._pool is None


def test_a_pool_with_a_task_stops_as_celerys_does(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(TaskPool, "on_stop", lambda _: said.append("celery's stop"))
    pool_with({1: object()}, said).on_stop()
    assert said == ["celery's stop"]


def test_the_loop_is_called_although_the_interrupted_code_holds_its_lock() -> None:
    hub: Any = Hub()
    before = get_event_loop()
    set_event_loop(hub)
    try:
        with hub._ready_lock:  # as the code that a signal interrupts may
            wake_main_loop()
        wait_until(lambda: bool(hub._ready))
    finally:
        set_event_loop(before)
        hub.close()
