"""A worker asks before each message whether it wants more."""

from types import SimpleNamespace
from typing import Any

from celery import Celery

from rlm_dist.broker.backpressure import limit_intake


class Hub:
    """Stands for the event loop of Celery's consumer."""

    def __init__(self) -> None:
        self.calls = 0

    def call_soon(self, callback: Any) -> None:
        self.calls += 1
        callback()


def connected(app: Celery, hub: Hub, *, allowed: bool) -> Any:
    """What Celery's consumer asks, after the steps that were added to it have run."""
    qos = SimpleNamespace(can_consume=lambda: allowed)
    channel = SimpleNamespace(qos=qos)
    consumer = SimpleNamespace(task_consumer=SimpleNamespace(channel=channel), hub=hub)
    for step in app.steps["consumer"]:
        step(consumer).start(consumer)
    return qos


def test_a_message_is_taken_where_both_the_worker_and_celery_want_it() -> None:
    """Celery's own limit still holds."""
    wants = [True]
    app = Celery("test", set_as_current=False)
    limit_intake(app, lambda: wants[0])
    assert connected(app, Hub(), allowed=True).can_consume()
    assert not connected(app, Hub(), allowed=False).can_consume()
    wants[0] = False
    assert not connected(app, Hub(), allowed=True).can_consume()


def test_the_loop_of_the_latest_connection_is_woken() -> None:
    """And nothing is, before there is one."""
    app = Celery("test", set_as_current=False)
    wake = limit_intake(app, lambda: True)
    wake()
    first, second = Hub(), Hub()
    for hub in (first, second):
        connected(app, hub, allowed=True)
    wake()
    assert (first.calls, second.calls) == (0, 1)
