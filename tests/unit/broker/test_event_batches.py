"""Events of tasks wait for the next tenth of a second; the last ones leave when the worker stops."""

from types import SimpleNamespace
from typing import Any

from celery import Celery
from kombu.asynchronous.timer import Timer

from rlm_dist.broker.event_batches import batch_events


def consumer_of(flushed: list[int]) -> Any:
    """What the step sees of Celery's consumer; each flush adds to the list."""
    dispatcher = SimpleNamespace(on_send_buffered=print, flush=lambda: flushed.append(1))
    return SimpleNamespace(event_dispatcher=dispatcher, timer=Timer())


def step_of(consumer: Any) -> Any:
    """The step that an application gets, for this consumer."""
    app = Celery("test", set_as_current=False)
    batch_events(app)
    (step_class,) = app.steps["consumer"]
    return step_class(consumer)


def test_a_worker_without_events_starts_and_stops() -> None:
    consumer = SimpleNamespace(event_dispatcher=None, timer=Timer())
    step = step_of(consumer)
    step.start(consumer)
    step.stop(consumer)
    assert not consumer.timer.queue


def test_events_leave_at_intervals_and_at_the_end() -> None:
    flushed: list[int] = []
    consumer = consumer_of(flushed)
    step = step_of(consumer)
    step.start(consumer)
    assert consumer.event_dispatcher.on_send_buffered is None
    (entry,) = consumer.timer.queue
    entry.entry()
    assert len(flushed) == 1
    step.stop(consumer)
    assert len(flushed) == 2
    assert all(each.entry.canceled for each in consumer.timer.queue)
