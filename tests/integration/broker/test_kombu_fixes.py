"""A channel keeps its client and the messages in hand, and ends without a surprise when it is cut off."""

from typing import Any

import pytest
from kombu import Connection

from rlm_dist.broker.kombu_fixes import repair_broker
from tests.support.redis_servers import RedisServer

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


def test_a_message_is_kept_by_a_living_holder_and_leaves_a_dead_one(redis_server: RedisServer) -> None:
    """Past its time it would be given back; its holder's round makes it young again."""
    with (
        Connection(redis_server.url) as sender,
        Connection(redis_server.url) as holder,
        Connection(redis_server.url) as other,
    ):
        sender.SimpleQueue("held").put({"n": 1})
        message: Any = holder.SimpleQueue("held").get(timeout=10)
        channel: Any = other.channel()
        age(channel, message.delivery_tag)
        message.channel.qos.restore_visible(interval=1)
        channel.qos.restore_visible(interval=1)
        assert waiting(channel) == 0
        age(channel, message.delivery_tag)
        channel.qos.restore_visible(interval=1)
        assert waiting(channel) == 1


def test_a_channel_keeps_one_client_a_pool(redis_server: RedisServer) -> None:
    """A new one for each message takes as long as a trip to Redis; one of a pool that is gone is no use."""
    with Connection(redis_server.url) as connection:
        channel: Any = connection.channel()
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
        channel._disconnect_pools()
        with channel.conn_or_acquire() as anew:
            assert anew is not first
            assert anew.ping()


def age(channel: Any, tag: str) -> None:
    """Make a message that is held seem to be held for ever."""
    with channel.conn_or_acquire() as client:
        assert client.zscore(channel.unacked_index_key, tag)
        client.zadd(channel.unacked_index_key, {tag: 1})


def waiting(channel: Any) -> int:
    """How many messages are in the queue."""
    with channel.conn_or_acquire() as client:
        return int(client.llen("held"))
