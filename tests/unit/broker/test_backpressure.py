"""Before each message, Celery's consumer asks the worker whether it wants more."""

from types import SimpleNamespace
from typing import Any

from celery import Celery

from rlm_dist.broker.backpressure import limit_intake


class Hub:
    """A fake of the event loop in Celery's consumer."""

    def __init__(self) -> None:
        self.calls = 0

    def call_soon(self, callback: Any) -> None:
        self.calls += 1
        callback()


def connected(app: Celery, hub: Hub, *, allowed: bool) -> Any:
    """The predicate that Celery's consumer calls, after the added steps have run."""
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
    """Before there is a connection, nothing is woken."""
    app = Celery("test", set_as_current=False)
    wake = limit_intake(app, lambda: True)
    wake()
    first, second = Hub(), Hub()
    for hub in (first, second):
        connected(app, hub, allowed=True)
    wake()
    assert (first.calls, second.calls) == (0, 1)
