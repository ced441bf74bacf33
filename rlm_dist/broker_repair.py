"""A repair of kombu 5.7: a worker that loses its broker connection with messages in its hands must live on.

There the consumer first collects its connection, which cuts the channel off its transport, and then closes
the channel, which tries to give unacknowledged messages back over it. That ends in an AttributeError which
nobody expects, and the whole worker with it. The messages need not be given back: their calls are claimed
by us or free for all, and who waits for them sends them again.
"""

from typing import Any

from kombu.transport import redis as transport


class _QoS(transport.QoS):
    """Gives nothing back over a channel that has no connection any more."""

    def restore_unacked(self, client: Any = None) -> Any:
        """Put messages that were not acknowledged back into the queue, where there is a way to."""
        if self.channel.connection.client is None:
            if self._delivered:
                self._delivered.clear()
            return None
        return super().restore_unacked(client=client)


def repair_broker() -> None:
    """Have every channel opened from now on use the repaired class."""
    transport.Channel.QoS = _QoS
