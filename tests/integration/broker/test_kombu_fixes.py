"""A channel keeps its client and its unacknowledged messages, and closes cleanly when it is cut off."""

from typing import Any

import pytest
import redis
from kombu import Connection
from kombu.asynchronous import Hub, set_event_loop

from rlm_dist.broker.kombu_fixes import repair_broker
from rlm_dist.store import connect
from tests.support.redis_servers import RedisServer

repair_broker()


def connection_to(server: RedisServer) -> Connection:
    """A connection whose keys are such as our processes may use."""
    names = {f"{name}_key": f"rlm.test.{name}" for name in ("unacked", "unacked_index", "unacked_mutex")}
    return Connection(server.url, transport_options=names)


def test_a_channel_without_connection_says_so(redis_server: RedisServer) -> None:
    """As in a worker, the connection is collected and then closed; acknowledging raises an expected error."""
    with connection_to(redis_server) as sender:
        sender.SimpleQueue("rlm.test.repair").put({"n": 1})
    connection = connection_to(redis_server)
    queue = connection.SimpleQueue("rlm.test.repair")
    message = queue.get(timeout=10)
    channel: Any = message.channel
    channel.connection.client = None  # the state after Connection.collect()
    channel._disconnect_pools()
    channel.__dict__.pop("client", None)
    with pytest.raises(connection.connection_errors):
        channel.basic_ack(message.delivery_tag)
    channel.close()
    connection.close()


def test_a_message_is_kept_by_a_living_holder_and_leaves_a_dead_one(redis_server: RedisServer) -> None:
    """An overdue message would be redelivered; the sweep of a living holder resets its age."""
    with (
        connection_to(redis_server) as sender,
        connection_to(redis_server) as holder,
        connection_to(redis_server) as other,
    ):
        sender.SimpleQueue("rlm.test.held").put({"n": 1})
        message: Any = holder.SimpleQueue("rlm.test.held").get(timeout=10)
        channel: Any = other.channel()
        age(channel, message.delivery_tag)
        message.channel.qos.restore_visible(interval=1)
        channel.qos.restore_visible(interval=1)
        assert waiting(channel) == 0
        age(channel, message.delivery_tag)
        channel.qos.restore_visible(interval=1)
        assert waiting(channel) == 1


def test_a_channel_that_closes_waits_a_quarter_of_a_second_for_a_message(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the answer to its last command, so that a message is not lost with it."""
    with connection_to(redis_server) as connection:
        channel: Any = connection.channel()
        channel.queue_declare("rlm.test.wait")
        channel.basic_consume("rlm.test.wait", no_ack=True, callback=print, consumer_tag="t")
        sent: list[tuple[Any, ...]] = []
        channel.client.connection = channel.client.connection_pool.get_connection()
        send = channel.client.connection.send_command

        def note(*words: Any) -> None:
            sent.append(words)
            send(*words)

        monkeypatch.setattr(channel.client.connection, "send_command", note)
        channel._brpop_start()
        channel.close()
        assert not channel._in_poll
    assert [words[-1] for words in sent if words[0] == "BRPOP"] == [0.25]


def test_a_channel_keeps_one_client_a_pool(redis_server: RedisServer) -> None:
    """A new client for each message costs a round trip; a client of a closed pool is useless."""
    with connection_to(redis_server) as connection:
        channel: Any = connection.channel()
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
        channel._disconnect_pools()
        with channel.conn_or_acquire() as replacement:
            assert replacement is not first
            assert replacement.ping()


def test_a_message_is_acknowledged_without_a_transaction(redis_server: RedisServer) -> None:
    with (
        connection_to(redis_server) as connection,
        connect(redis_server.admin_url, client_name="test-admin") as admin,
    ):
        queue = connection.SimpleQueue("rlm.test.noted")
        queue.put({"n": 1})
        message: Any = queue.get(timeout=10)
        channel = message.channel
        with channel.conn_or_acquire() as client:
            tag = message.delivery_tag
            assert client.hexists(channel.unacked_key, tag)
            assert client.zscore(channel.unacked_index_key, tag) is not None
            before = transactions(admin)
            message.ack()
            assert transactions(admin) == before
            assert not client.hexists(channel.unacked_key, tag)
            assert client.zscore(channel.unacked_index_key, tag) is None


@pytest.mark.parametrize("closes", [False, True])
def test_a_worker_acknowledges_messages_together(redis_server: RedisServer, closes: bool) -> None:
    """In the next round of its loop, or as its channel closes; one that it has not acknowledged goes back."""
    hub = Hub()
    set_event_loop(hub)
    try:
        with connection_to(redis_server) as connection:
            queue = connection.SimpleQueue("rlm.test.together")
            for n in range(3):
                queue.put({"n": n})
            messages: list[Any] = [queue.get(timeout=10) for _ in range(3)]
            channel = messages[0].channel
            tags = [message.delivery_tag for message in messages]
            for message in messages[:2]:
                message.ack()
            with channel.conn_or_acquire() as client:
                assert all(client.hexists(channel.unacked_key, tag) for tag in tags)
            if closes:
                channel.close()
            else:
                hub.run_once()
        with connection_to(redis_server) as connection:
            other: Any = connection.channel()
            with other.conn_or_acquire() as client:
                assert not any(client.hexists(other.unacked_key, tag) for tag in tags[:2])
            left = connection.SimpleQueue("rlm.test.together").get(timeout=10)
            assert left.payload == {"n": 2}
            left.ack()
    finally:
        set_event_loop(None)
        hub.close()


def transactions(admin: redis.Redis) -> int:
    """How many transactions the server has run."""
    stats: Any = admin.info("commandstats")
    return int(stats.get("cmdstat_exec", {}).get("calls", 0))


def age(channel: Any, tag: str) -> None:
    """Make an unacknowledged message look very old."""
    with channel.conn_or_acquire() as client:
        assert client.zscore(channel.unacked_index_key, tag)
        client.zadd(channel.unacked_index_key, {tag: 1})


def waiting(channel: Any) -> int:
    """The number of messages in the queue."""
    with channel.conn_or_acquire() as client:
        return int(client.llen("rlm.test.held"))
