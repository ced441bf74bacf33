"""Webhooks of several receivers: one that hangs does not delay those of another."""

import threading
from collections.abc import Mapping

import redis

from rlm_dist.store import Store
from rlm_dist.worker.webhook_sender import WebhookSender, post
from tests.support.canned_endpoint import ReceivedRequest, Reply, canned_endpoint
from tests.support.waiting import wait_until

NUMBER = 20


def test_a_receiver_that_hangs_leaves_room_for_another(store: Store, redis_client: redis.Redis) -> None:
    """All deliveries to the one arrive while those to the other, which were due first, hang."""
    go = threading.Event()

    def hang(_: ReceivedRequest) -> Reply:
        go.wait(60)
        return Reply(204, "")

    def send(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        return post(url, body, headers, private=True)

    with canned_endpoint(hang) as slow, canned_endpoint(lambda _: Reply(204, "")) as fast:
        other_host = fast.url.replace("127.0.0.1", "localhost")
        for number in range(2 * NUMBER):
            url = slow.url if number < NUMBER else other_host
            store.batches.create(f"b{number:02}", "digest", 0, webhook=url)
            store.batches.seal(f"b{number:02}")
        sender = WebhookSender(store, secret=None, post=send)
        try:
            wait_until(lambda: len(fast.requests) == NUMBER)
            assert len(slow.requests) == 2
            assert not go.is_set()
        finally:
            go.set()
            sender.close()
            redis_client.delete("rlm:webhooks")  # what is still due there
