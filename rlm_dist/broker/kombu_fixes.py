"""Seven fixes of kombu 5.7's Redis transport.

1. In kombu, a message that a worker holds counts as lost once it is older than the visibility timeout, even
   if the worker is alive. Here a live worker renews the time of the messages it holds. The timeout can then
   be short, and another worker soon gets the messages of a dead one.
2. A worker that loses its broker connection while it holds messages must live on. kombu still asks the
   disconnected channel to acknowledge messages and, when it closes, to give them back. In kombu that raises
   an AttributeError over the missing connection, which nothing expects, and the whole worker ends. Here the
   channel raises ConnectionError, which is expected. It gives nothing back: the calls of those messages are
   either claimed by this worker or free for any, and the job that waits for them sends them again.
3. A channel keeps its client, and makes a new one only when its connection pool changes.
4. In kombu, the list with the queue's own name is always the first that a worker takes from. Here a worker
   takes from the lists in the order of ``priority_steps``, which need not be sorted, so that a priority above
   the normal one can exist.
5. In kombu and Celery, an entry of a queue that is no message, such as text that is not JSON, ends the
   worker, and a task whose name is a list never ends. Here both are dropped, and logged without content.
6. A worker that stops waits for the answer to its last BRPOP, which in kombu comes after a second. Here it
   comes after a quarter of one, at three commands a second more for a worker without work.
7. kombu notes a message, and removes it, in two keys and one transaction. Here it is none: both commands
   leave in one packet, a server that dies between them loses no more than one that dies before, and there
   are two replies to read and not five. Messages that are acknowledged in one round of a worker's loop leave
   together.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

import redis
import structlog
from celery.worker import state
from kombu.asynchronous import get_event_loop
from kombu.exceptions import OperationalError
from kombu.transport import redis as transport
from kombu.transport import virtual
from pydantic import BaseModel, ConfigDict, Field, JsonValue

_BLOCK_S = 0.25
log = structlog.get_logger()

# Errors that say something of the connection, not of the message.
_OF_CONNECTION = (Empty, OSError, redis.RedisError, OperationalError)


class _TaskHeaders(BaseModel):
    """The headers of a task that Celery uses unchecked; messages that are no tasks have none of them."""

    model_config = ConfigDict(strict=True)

    id: str | None = None
    task: str | None = None
    shadow: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    origin: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    eta: str | None = None
    expires: str | float | None = None
    retries: int | None = None
    timelimit: list[float | None] | None = Field(default=None, min_length=2, max_length=2)
    stamped_headers: list[str] | None = None
    stamps: dict[str, JsonValue] | None = None


class _CheckedMessage(virtual.Message):
    """A message; ValidationError if it cannot be a task's, which Celery would notice when it is too late."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        _TaskHeaders.model_validate(payload.get("headers") or {})
        super().__init__(payload, channel=channel, **kwargs)


class _QoS(transport.QoS):
    """Renews the messages that it holds, and gives none back over a channel that is disconnected."""

    channel: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._acknowledged: list[str] = []

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, in a worker together with others of the same round of its loop."""
        virtual.QoS.ack(self, delivery_tag)
        self._acknowledged.append(delivery_tag)
        loop = get_event_loop()
        if loop is None:
            self._send_acknowledged()
        else:
            loop.call_soon(self._send_acknowledged)  # the first of a round sends them all

    def _send_acknowledged(self) -> None:
        tags, self._acknowledged = self._acknowledged, []
        if tags:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()

    def restore_unacked_once(self, stderr: Any = None) -> Any:
        """Acknowledge what still waits, and give back the other messages."""
        if self.channel.is_connected():
            self._send_acknowledged()
        return super().restore_unacked_once(stderr)

    @contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        """The pipeline of whoever has one, or else a new one, which is no transaction."""
        if pipe:
            yield pipe
        else:
            with self.channel.conn_or_acquire(client) as client:
                yield client.pipeline(transaction=False)

    def restore_visible(self, *args: Any, **kwargs: Any) -> Any:
        """Renew our own messages, and requeue those of dead workers; kombu calls this every few seconds."""
        tags = list(self._delivered or ())
        if tags:
            with self.channel.conn_or_acquire() as client:
                now_s = time.time()  # the clock that kombu uses, too
                client.zadd(self.unacked_index_key, dict.fromkeys(tags, now_s), xx=True)
        return super().restore_visible(*args, **kwargs)

    def restore_unacked(self, client: Any = None) -> Any:
        """Put unacknowledged messages back into the queue, if the channel is connected."""
        if not self.channel.is_connected():
            if self._delivered:
                self._delivered.clear()
            return None
        return super().restore_unacked(client=client)


class _Channel(transport.Channel):
    """Raises ConnectionError if it is disconnected, keeps its client, and knows priorities in any order."""

    QoS = _QoS
    Message = _CheckedMessage
    _kept_client: Any = None

    def is_connected(self) -> bool:
        """Whether this channel can still reach the broker."""
        return self.connection is not None and self.connection.client is not None

    def _brpop_read(self, **options: Any) -> Any:
        return self._take_message(lambda: super(_Channel, self)._brpop_read(**options))  # type: ignore[misc]  # not in the stubs

    def _receive(self) -> Any:
        return self._take_message(super()._receive)  # type: ignore[misc]  # not in the stubs

    def _take_message(self, take: Callable[[], Any]) -> Any:
        held, reserved = set(self.qos._delivered or ()), set(state.reserved_requests)
        try:
            return take()
        except _OF_CONNECTION:
            raise
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a message, the worker goes on
            log.warning("message_dropped", error=type(error).__name__)
            # What is left of it would count as being worked on.
            for request in set(state.reserved_requests) - reserved:
                state.task_ready(request)
            for tag in set(self.qos._delivered or ()) - held:
                self.basic_reject(tag, requeue=False)
            return True

    def priority(self, n: int) -> int:
        """The step of a message's priority: the highest that is not above it."""
        return max(step for step in self.priority_steps if step <= n)

    def _connparams(self, asynchronous: bool = False) -> Any:
        if not self.is_connected():
            raise ConnectionError("the channel is closed")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]  # not in the stubs

    def _create_client(self, asynchronous: bool = False) -> Any:
        make: Any = super()._create_client  # type: ignore[misc]  # not in the stubs
        if asynchronous:
            return make(asynchronous=True)
        client, pool = self._kept_client, self.pool
        if client is None or client.connection_pool is not pool:
            self._kept_client = client = make()
        return client


def repair_broker() -> None:
    """Make every channel opened from now on one of the fixed class."""
    transport.Transport.Channel = _Channel
    transport.Transport.brpop_timeout = _BLOCK_S  # type: ignore[assignment]  # Redis takes fractions
