"""Messages to the root workers are built by hand for speed, and equal Celery's own."""

import base64
import json
from typing import Any

import redis

from rlm_dist.broker.app import AGAIN_QUEUE, ROOT_QUEUE, ROOT_TASK, make_app
from rlm_dist.broker.publish import send_root
from rlm_dist.settings import Settings
from tests.support.store_values import spec

NORMAL = 3  # kombu's name for a queue's messages of this priority


def sent(client: redis.Redis, queue: str) -> Any:
    """The one message on a queue as kombu writes it, without its random parts."""
    (raw,) = client.lrange(f"{queue}\x06\x16{NORMAL}", 0, -1)
    message = json.loads(raw)
    message["body"] = json.loads(base64.b64decode(message["body"]))
    assert message["properties"].pop("delivery_tag")
    assert message["properties"].pop("correlation_id") == message["headers"].pop("id")
    assert message["headers"].pop("root_id")
    # For replies, which are not used, and for texts that the headers have too.
    for name in ("reply_to", "argsrepr", "kwargsrepr"):
        message["properties"].pop(name, None)
    return message


def test_a_message_is_that_of_celerys_send_task(redis_url: str) -> None:
    with make_app(Settings(redis_url=redis_url)) as app, redis.Redis.from_url(redis_url) as client:
        app.send_task(
            ROOT_TASK, args=["j1"], queue=ROOT_QUEUE, priority=NORMAL,
            ignore_result=True, argsrepr="job=j1", kwargsrepr="{}",
        )  # fmt: skip
        expected = sent(client, ROOT_QUEUE)
        client.flushall()
        send_root(app, spec("j1"))
        assert sent(client, ROOT_QUEUE) == expected
        send_root(app, spec("j1"), again=True)
        assert sent(client, AGAIN_QUEUE)["body"] == expected["body"]
