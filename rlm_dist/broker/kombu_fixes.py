"""Three repairs of kombu 5.7's Redis transport.

A message that a worker holds counts as lost once it is older than the visibility timeout, whether its worker
lives or not. Here a living worker keeps the messages in its hands young, so that the timeout can be short and
those of a dead worker are soon with another one.

A worker that loses its broker connection with messages in its hands must live on. There a channel that has
been cut off its connection is still asked to acknowledge messages and, when it is closed, to give them back.
It then stumbles over the missing connection with an AttributeError that nobody expects, and the whole worker
ends. Here it says that it has no connection, which is expected; and it gives nothing back: the calls of those
messages are claimed by us or free for all, and who waits for them sends them again.
"""

import time
from typing import Any

from kombu.transport import redis as transport


class _QoS(transport.QoS):
    """Keeps its messages, and gives nothing back over a channel that has no connection any more."""

    channel: Any

    def restore_visible(self, *args: Any, **kwargs: Any) -> Any:
        """Put the messages of dead workers back into the queue; asked for every few seconds."""
        held = list(self._delivered or ())
        if held:
            with self.channel.conn_or_acquire() as client:
                now_s = time.time()  # by which kombu goes, too
                client.zadd(self.unacked_index_key, dict.fromkeys(held, now_s), xx=True)
        return super().restore_visible(*args, **kwargs)

    def restore_unacked(self, client: Any = None) -> Any:
        """Put messages that were not acknowledged back into the queue, where there is a way to."""
        if not self.channel.is_connected():
            if self._delivered:
                self._delivered.clear()
            return None
        return super().restore_unacked(client=client)


class _Channel(transport.Channel):
    """Says so where it has no connection any more, and keeps its client."""

    QoS = _QoS
    _kept: Any = None

    def is_connected(self) -> bool:
        """Whether this channel can still reach the broker."""
        return self.connection is not None and self.connection.client is not None

    def _connparams(self, asynchronous: bool = False) -> Any:
        if not self.is_connected():
            raise ConnectionError("the channel is closed")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]  # not in the stubs

    def _create_client(self, asynchronous: bool = False) -> Any:
        make: Any = super()._create_client  # type: ignore[misc]  # not in the stubs
        if asynchronous:
            return make(asynchronous=True)
        kept, pool = self._kept, self.pool
        if kept is None or kept.connection_pool is not pool:
            self._kept = kept = make()
        return kept


def repair_broker() -> None:
    """Have every channel opened from now on be of the repaired class."""
    transport.Transport.Channel = _Channel
