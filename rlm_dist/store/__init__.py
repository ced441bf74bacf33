"""All state of jobs, batches and calls, in Redis: the truth, where a Celery message is a hint.

Invariant: every change of more than one key is one Lua script, and any of them may be repeated. ``keys`` has
the table of keys.
"""

from rlm_dist.store.audit import Audit, Audits, Difference
from rlm_dist.store.batches import Batches
from rlm_dist.store.cached import Cached, Lead
from rlm_dist.store.calls import Calls, CallState, OpenCall, Refused, Settlement, Spend
from rlm_dist.store.capacity import Capacity, Window
from rlm_dist.store.jobs import Jobs
from rlm_dist.store.limits import Ceilings, Limits, Place, PlaceState, Report, Share
from rlm_dist.store.link import connect, reaching
from rlm_dist.store.logs import Logs
from rlm_dist.store.webhooks import DueWebhook, Webhooks

__all__ = [
    "Audit",
    "CallState",
    "Ceilings",
    "Difference",
    "DueWebhook",
    "Lead",
    "OpenCall",
    "Place",
    "PlaceState",
    "Refused",
    "Report",
    "Settlement",
    "Share",
    "Spend",
    "Store",
    "Window",
    "connect",
    "reaching",
]


class Store(Jobs, Batches, Calls, Logs, Capacity, Limits, Cached, Audits, Webhooks):
    """The whole store over one client; safe to use from several threads."""
