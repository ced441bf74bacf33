"""A channel that lost its connection with a message in its hands is closed without a surprise."""

from typing import Any

import pytest
from kombu import Connection

from rlm_dist.broker_repair import repair_broker
from tests.redis_servers import RedisServer

repair_broker()


def test_a_channel_without_connection_says_so(redis_server: RedisServer) -> None:
    """As in a worker: the connection is collected, then closed; acknowledging is an expected error."""
    with Connection(redis_server.url) as sender:
        sender.SimpleQueue("repair").put({"n": 1})
    connection = Connection(redis_server.url)
    queue = connection.SimpleQueue("repair")
    message = queue.get(timeout=10)
    channel: Any = message.channel
    channel.connection.client = None  # what Connection.collect() leaves behind
    channel._disconnect_pools()
    channel.__dict__.pop("client", None)
    with pytest.raises(connection.connection_errors):
        channel.basic_ack(message.delivery_tag)
    channel.close()
    connection.close()
