"""Webhooks of batches that have ended: due, taken by one sender under a lease, tried again, done.

A batch with a webhook joins the list of due webhooks when it ends; if ``retry`` runs it again, it joins the
list at each of its ends. Its score there is the time when it is due or, once taken, when its sender's lease
ends.
"""

from collections.abc import Collection
from typing import NamedTuple

from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart


class DueWebhook(NamedTuple):
    """A webhook that this process is to send; ``tries`` is the number of this attempt, from 1."""

    batch_id: str
    until_ms: str
    tries: int
    url: str
    ended_ms: int
    host: str


class WebhookStore(StorePart):
    """The part of the store for webhooks."""

    def take(self, lease_ms: int, *, passing_over: Collection[str] = ()) -> DueWebhook | None:
        """Take a due webhook; nobody else gets it for ``lease_ms``, unless ``done`` makes it due earlier.

        Those of the hosts ``passing_over`` stay due.
        """
        reply = self._script("webhook_take", [keys.WEBHOOKS], lease_ms, *passing_over)
        if not reply:
            return None
        batch, until_ms, tries, url, ended_ms, host = reply
        batch_id = batch.removeprefix(keys.batch(""))
        return DueWebhook(batch_id, until_ms, int(tries), url, int(ended_ms), host)

    def done(self, due: DueWebhook, state: str, retry_ms: int | None = None) -> bool:
        """Record an attempt's result; it is due again after ``retry_ms``. False if another sender has it."""
        args = (keys.batch(due.batch_id), due.until_ms, state, "" if retry_ms is None else retry_ms)
        return bool(self._script("webhook_done", [keys.WEBHOOKS], *args))
