"""Entries of the queues that are no messages, or none of ours: each is dropped, and no worker ends."""

import json
import uuid
from base64 import b64encode
from typing import Any

import pytest
import redis

from rlm_dist.broker.app import AGAIN_QUEUE, ROOT_QUEUE, SUB_QUEUE
from rlm_dist.schema import Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import WAIT_S, MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

HEADERS = (
    *("id", "task", "eta", "expires", "timelimit", "retries", "root_id", "argsrepr", "group", "reply_to"),
    *("stamps", "stamped_headers", "shadow", "origin", "lang"),
)


def envelope(task: str, *, body: Any = "[[], {}, {}]", headers: Any = (), **changes: Any) -> str:
    """A message as kombu writes it, with these changes; a field that is None is left out."""
    encoded = b64encode(body.encode()).decode() if isinstance(body, str) else body
    properties = {
        "correlation_id": "t",
        "reply_to": "r",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": task},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    message = {
        "body": encoded,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": "t", **dict(headers)},
        "properties": properties,
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return json.dumps({name: value for name, value in message.items() if value is not None})


def of(*values: Any) -> list[Any]:
    return list(values)


def entries(task: str) -> list[bytes]:
    """Garbage, then envelopes with something wrong, then tasks with something wrong."""

    def known() -> dict[str, Any]:
        return dict(json.loads(envelope(task))["properties"])

    texts = [
        *("", "not json", "[]", "{}", "null", "1", '"text"', '{"properties": {}}', "[" * 50_000, "\ud800"),
        *(envelope(task, properties=value) for value in of({}, [], 3)),
        *(envelope(task, properties={**known(), "delivery_info": value}) for value in of(None, {}, "x")),
        *(envelope(task, properties={**known(), "delivery_tag": value}) for value in of([], {}, 3)),
        *(envelope(task, properties={**known(), "body_encoding": value}) for value in of("none", 5, {})),
        *(envelope(task, body=value) for value in of(5, {}, "not json", "[" * 50_000, "{}", '[[1, 2]]')),
        *(envelope(task, content_type=value) for value in of("application/x-python-serialize", 7, {})),
        *(envelope(task, content_encoding=value) for value in ("binary", "none", 7)),
        envelope(task).replace('"headers": {', '"headers": null, "other": {'),
        envelope(task).replace('"headers": {', '"headers": [], "other": {'),
        envelope("unknown.task"),
        *(
            envelope(task, headers={name: value}.items())
            for name in HEADERS
            for value in of("garbage", [], {}, None, 10**30, ["a", "b", "c"])
        ),
    ]  # fmt: skip
    return [b"\xff\xfe\x00", *(text.encode("utf-8", "surrogatepass") for text in texts)]


def test_entries_that_are_no_messages_end_no_worker(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        workers = [bench.start(Role.ROOT, concurrency=1), bench.start(Role.SUB, concurrency=4)]
        bench.wait_ready()
        with redis.Redis.from_url(str(bench.settings.redis_url)) as client:
            for queue in (ROOT_QUEUE, AGAIN_QUEUE, SUB_QUEUE):
                client.rpush(queue, *entries(queue))
            job = bench.client.submit("Who is number 0?\nWhere is number 1?", "Label the first 2 lines.")
            assert job.result(WAIT_S).answer is not None
            wait_until(
                lambda: not any(client.llen(queue) for queue in (ROOT_QUEUE, AGAIN_QUEUE, SUB_QUEUE)),
                timeout_s=WAIT_S,
            )
            again = bench.client.submit("Who is number 0?\nWhere is number 1?", "Label the first 2 lines.")
            assert again.result(WAIT_S).answer is not None
            wait_until(lambda: not [*client.scan_iter("rlm.unacked*")] or not client.hlen("rlm.unacked.sub"))
        for worker in workers:
            assert worker.process.poll() is None, worker.text()[-5000:]
            assert "message_dropped" in worker.text()
