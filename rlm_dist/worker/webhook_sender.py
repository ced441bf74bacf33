"""Telling somebody that a batch has ended, by HTTP, in the style of Standard Webhooks.

The body is one JSON object with the batch's id, state, counts and costs: no key, no prompt, no answer. It is
signed with ``RLM_WEBHOOK_SECRET`` over ``<webhook-id>.<webhook-timestamp>.<body>`` by HMAC-SHA256. Without
that secret it goes out unsigned, which the log, the batch's status and the body say.

Every worker process looks for webhooks that are due; the store gives each to one of them, under a lease, so
that it is sent again where its sender dies. A receiver may get one twice, with the same ``webhook-id``.
"""

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable, Mapping

import httpx2
import structlog

from rlm_dist.errors import NotFound
from rlm_dist.schema import BatchRecord
from rlm_dist.schema.leases import SWEEP_S
from rlm_dist.store import DueWebhook, Store
from rlm_dist.worker.heartbeats import PeriodicThread

log = structlog.get_logger()

Post = Callable[[str, bytes, Mapping[str, str]], int]

MOST_TRIES = 24  # over about ten hours
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3600.0
_TIMEOUT_S = 10.0
_LEASE_MS = 60_000
_SECRET_PREFIX = "whsec_"
_GONE = 410


def body_of(record: BatchRecord, ended_ms: int, *, signed: bool) -> bytes:
    """What is told of a batch that has ended."""
    told = {
        "type": f"batch.{record.state}",
        "id": record.id,
        "state": record.state,
        "ended_ms": ended_ms,
        "total": record.total,
        "counts": record.counts,
        "costs": record.costs.model_dump(),
        "signed": signed,
    }
    return json.dumps(told).encode()


def headers_of(message_id: str, timestamp_s: int, body: bytes, secret: str | None) -> dict[str, str]:
    """The headers that go with a body; no signature without a secret."""
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
    }
    if secret is not None:
        signed = f"{message_id}.{timestamp_s}.".encode() + body
        digest = hmac.digest(key_of(secret), signed, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def key_of(secret: str) -> bytes:
    """The key that a secret stands for: base64 after ``whsec_``, or else the text itself.

    Raises:
        ValueError: where what follows ``whsec_`` is no base64.
    """
    if secret.startswith(_SECRET_PREFIX):
        return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    return secret.encode()


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Send a webhook and return the status; its answer is not read, and no redirection followed."""
    with httpx2.stream(
        "POST", url, content=body, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False
    ) as response:
        return int(response.status_code)


class WebhookSender:
    """A thread that sends the webhooks that are due."""

    def __init__(self, store: Store, *, secret: str | None, post: Post = post) -> None:
        self._store = store
        self._secret = secret
        self._post = post
        self._every = PeriodicThread(self._round, period_s=SWEEP_S, name="webhooks")

    def close(self) -> None:
        """Stop after the one under way."""
        self._every.close()

    def _round(self) -> None:
        while (due := self._store.webhooks.take(_LEASE_MS)) is not None:
            self._send(due)

    def _send(self, due: DueWebhook) -> None:
        try:
            record = self._store.batches.get(due.batch_id)
        except NotFound:  # its retention is over; it will not be taken again
            return
        if self._secret is None:
            log.warning("webhook_not_signed", batch=due.batch_id, why="RLM_WEBHOOK_SECRET is not set")
        body = body_of(record, due.ended_ms, signed=self._secret is not None)
        headers = headers_of(message_id(due), int(time.time()), body, self._secret)
        try:
            status = self._post(due.url, body, headers)
            told = f"HTTP {status}"
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            status, told = 0, type(error).__name__
        if 200 <= status < 300:
            self._store.webhooks.done(due, "delivered" if self._secret else "delivered unsigned")
        elif due.tries >= MOST_TRIES or status == _GONE:
            self._store.webhooks.done(due, f"given up: {told}")
            log.error("webhook_given_up", batch=due.batch_id, told=told)
        else:
            self._store.webhooks.done(due, f"try {due.tries} failed: {told}", _pause_ms(due.tries))
            log.warning("webhook_failed", batch=due.batch_id, told=told, tries=due.tries)


def message_id(due: DueWebhook) -> str:
    """A name that all tries to tell one end of one batch share."""
    return f"msg_{hashlib.sha256(f'{due.batch_id}@{due.ended_ms}'.encode()).hexdigest()[:24]}"


def _pause_ms(tries: int) -> int:
    longest_s = min(_FIRST_PAUSE_S * 2.0 ** (tries - 1), _LONGEST_PAUSE_S)
    return int(1000 * longest_s * random.uniform(0.5, 1.0))
