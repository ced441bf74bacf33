"""Webhooks of batches that have ended: due, taken by one sender under a lease, tried again, done.

A batch with a webhook goes on the list of due ones when it ends; one that is run again by ``retry`` does so
at each of its ends. The score on the list is when it is due, or until when its sender's lease runs.
"""

from typing import NamedTuple

from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart


class DueWebhook(NamedTuple):
    """A webhook that this process is to send, for the ``tries``-th time."""

    batch_id: str
    until_ms: str
    tries: int
    url: str
    ended_ms: int


class WebhookStore(StorePart):
    """The part of the store that knows webhooks."""

    def take(self, lease_ms: int) -> DueWebhook | None:
        """One that is due; nobody else gets it for ``lease_ms``, unless it is given back before."""
        found = self._script("webhook_take", [keys.WEBHOOKS], lease_ms)
        if not found:
            return None
        batch, until_ms, tries, url, ended_ms = found
        batch_id = batch.removeprefix(keys.batch(""))
        return DueWebhook(batch_id, until_ms, int(tries), url, int(ended_ms))

    def done(self, due: DueWebhook, state: str, retry_ms: int | None = None) -> bool:
        """Note what a try came to; it is due again after ``retry_ms``. False where another sender has it."""
        args = (keys.batch(due.batch_id), due.until_ms, state, "" if retry_ms is None else retry_ms)
        return bool(self._script("webhook_done", [keys.WEBHOOKS], *args))
