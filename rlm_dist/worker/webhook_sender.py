"""Sends a webhook when a batch has ended, in the style of Standard Webhooks.

The body is one JSON object with the batch's id, state, counts and costs: no key, no prompt, no answer. The
signature is HMAC-SHA256 with ``RLM_WEBHOOK_SECRET`` over ``<webhook-id>.<webhook-timestamp>.<body>``. Without
that secret the webhook is sent unsigned, and the log, the batch's status and the body say so.

Every worker process looks for webhooks that are due; the store gives each to one of them, under a lease, so
that it is sent again if its sender dies. A receiver may get one twice, with the same ``webhook-id``.

The address comes from whoever submitted the batch, so it is not trusted: ``outbound`` refuses private ones,
follows no redirect and ends a delivery after ten seconds. The batch's ``webhook`` is ``waiting``,
``retrying``, ``delivered``, ``delivered unsigned``, ``refused`` or ``failed``; the log has the status.
"""

import base64
import hashlib
import hmac
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from rlm_dist.errors import NotFound
from rlm_dist.outbound import AddressRefused, exchange
from rlm_dist.schema import BatchRecord
from rlm_dist.schema.leases import SWEEP_S
from rlm_dist.store import DueWebhook, Store
from rlm_dist.worker.heartbeats import PeriodicThread

log = structlog.get_logger()

Post = Callable[[str, bytes, Mapping[str, str]], int]

MOST_TRIES = 24  # over about ten hours
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3600.0
_DEADLINE_S = 10.0
_AT_ONCE = 8
_AT_ONCE_TO_A_HOST = 2
_LEASE_MS = 60_000
_SECRET_PREFIX = "whsec_"
_GONE = 410


def body_of(record: BatchRecord, ended_ms: int, *, signed: bool) -> bytes:
    """The body of the webhook for a batch that has ended."""
    content = {
        "type": f"batch.{record.state}",
        "id": record.id,
        "state": record.state,
        "ended_ms": ended_ms,
        "total": record.total,
        "counts": record.counts,
        "costs": record.costs.model_dump(),
        "signed": signed,
    }
    return json.dumps(content).encode()


def headers_of(message_id: str, timestamp_s: int, body: bytes, secret: str | None) -> dict[str, str]:
    """The headers for a body; without a secret they have no signature."""
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
    }
    if secret is not None:
        content = f"{message_id}.{timestamp_s}.".encode() + body
        digest = hmac.digest(key_of(secret), content, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def key_of(secret: str) -> bytes:
    """The key in a secret: decoded from base64 after ``whsec_``, or else the text itself.

    Raises:
        ValueError: if what follows ``whsec_`` is not base64.
    """
    if secret.startswith(_SECRET_PREFIX):
        return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    return secret.encode()


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False) -> int:
    """Send a webhook and return the HTTP status; the body of the response is not read.

    Raises:
        AddressRefused: the address is not public, and ``private`` is False.
        OSError: as ``outbound.exchange``.
    """
    with exchange(
        "POST", url, body=body, headers=headers, deadline_s=_DEADLINE_S, private=private
    ) as response:
        return response.status


class WebhookSender:
    """A thread that looks for webhooks that are due, and a thread for each delivery.

    There are eight deliveries at most, and two to one host: one that does not answer leaves room for others.
    """

    def __init__(self, store: Store, *, secret: str | None, post: Post = post) -> None:
        self._store = store
        self._secret = secret
        self._post = post
        self._under_way: Counter[str] = Counter()  # by host
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = PeriodicThread(self._round, period_s=SWEEP_S, name="webhooks")

    def close(self) -> None:
        """Start no more deliveries, and wait for those under way; none takes much over its deadline."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way.total(), _DEADLINE_S)

    def _round(self) -> None:
        while self._wait_for(lambda: self._under_way.total() < _AT_ONCE, _DEADLINE_S):
            full = self._full_hosts()
            due = self._store.webhooks.take(_LEASE_MS, passing_over=full)
            if due is not None:
                with self._changed:
                    self._under_way[due.host] += 1
                threading.Thread(target=self._deliver, args=[due], name="webhook", daemon=True).start()
            elif not full:
                return
            else:  # more may be due at a full host, and others fall due meanwhile
                self._wait_for(lambda: not full <= self._full_hosts(), SWEEP_S)  # noqa: B023  # called here

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether the condition holds before the timeout and the sender's end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing.is_set() or condition(), timeout_s)
            return not self._closing.is_set() and condition()

    def _full_hosts(self) -> set[str]:
        with self._changed:
            return {host for host, number in self._under_way.items() if number >= _AT_ONCE_TO_A_HOST}

    def _deliver(self, due: DueWebhook) -> None:
        try:
            self._send(due)
        except Exception as error:  # noqa: BLE001  # the edge of a thread; the webhook is due again later
            log.warning("webhook_step_failed", batch=due.batch_id, error=type(error).__name__)
        finally:
            with self._changed:
                self._under_way.subtract([due.host])
                self._under_way += Counter()  # drops the hosts of zeros
                self._changed.notify_all()

    def _send(self, due: DueWebhook) -> None:
        try:
            record = self._store.batches.get(due.batch_id)
        except NotFound:  # the batch has expired; the webhook will not be taken again
            return
        if self._secret is None:
            log.warning("webhook_not_signed", batch=due.batch_id, why="RLM_WEBHOOK_SECRET is not set")
        body = body_of(record, due.ended_ms, signed=self._secret is not None)
        headers = headers_of(message_id(due), int(time.time()), body, self._secret)
        try:
            status = self._post(due.url, body, headers)
            outcome = f"HTTP {status}"
        except AddressRefused:
            self._store.webhooks.done(due, "refused")
            log.error(
                "webhook_refused", batch=due.batch_id, why="its address is private: RLM_WEBHOOK_PRIVATE"
            )
            return
        except OSError as error:
            status, outcome = 0, type(error).__name__
        # Whoever submits a batch is not told the status: it would show what listens in the workers' network.
        if 200 <= status < 300:
            self._store.webhooks.done(due, "delivered" if self._secret else "delivered unsigned")
        elif due.tries >= MOST_TRIES or status == _GONE:
            self._store.webhooks.done(due, "failed")
            log.error("webhook_given_up", batch=due.batch_id, told=outcome)
        else:
            self._store.webhooks.done(due, "retrying", _pause_ms(due.tries))
            log.warning("webhook_failed", batch=due.batch_id, told=outcome, tries=due.tries)


def message_id(due: DueWebhook) -> str:
    """The id of the webhook for one end of one batch; the same for all tries."""
    return f"msg_{hashlib.sha256(f'{due.batch_id}@{due.ended_ms}'.encode()).hexdigest()[:24]}"


def _pause_ms(tries: int) -> int:
    longest_s = min(_FIRST_PAUSE_S * 2.0 ** (tries - 1), _LONGEST_PAUSE_S)
    return int(1000 * longest_s * random.uniform(0.5, 1.0))
