"""All state of jobs, batches and calls, in Redis; may import schema.

It is the truth: a Celery message is only a hint. Invariant: every change of more than one key is one Lua
script, and any of them may be repeated. ``keys`` has the table of keys.
"""

import redis

from rlm_dist.schema.cache import CacheRole
from rlm_dist.schema.limits import Ceilings, Report, Scope, ScopeState, Share
from rlm_dist.store.audit import Audit, AuditStore, Difference
from rlm_dist.store.backlog import BacklogStore
from rlm_dist.store.batches import BatchStore
from rlm_dist.store.cache import CacheStore
from rlm_dist.store.call_rows import CallRows
from rlm_dist.store.calls import CallRefused, CallState, CallStore, OpenCall, Settlement, Spend
from rlm_dist.store.capacity import Window, WorkerStore
from rlm_dist.store.children import ChildStore
from rlm_dist.store.connection import StoreConnection, connect, reaching
from rlm_dist.store.job_lists import JobListStore
from rlm_dist.store.jobs import JobStore
from rlm_dist.store.journals import JournalStore
from rlm_dist.store.limits import LimitStore
from rlm_dist.store.listings import ListingStore
from rlm_dist.store.tool_calls import ToolCallStore
from rlm_dist.store.webhooks import DueWebhook, WebhookStore

__all__ = [
    "Audit",
    "CacheRole",
    "CallRefused",
    "CallState",
    "CallStore",
    "Ceilings",
    "ChildStore",
    "Difference",
    "DueWebhook",
    "JobStore",
    "OpenCall",
    "Report",
    "Scope",
    "ScopeState",
    "Settlement",
    "Share",
    "Spend",
    "Store",
    "ToolCallStore",
    "Window",
    "connect",
    "reaching",
]


class Store:
    """The whole store, as parts that share one client; safe to use from several threads."""

    def __init__(self, client: redis.Redis, *, retention_s: int, patience_s: float = 0.0) -> None:
        self.connection = StoreConnection(client, retention_s=retention_s, patience_s=patience_s)
        self.jobs = JobStore(self.connection)
        self.batches = BatchStore(self.connection)
        self.lists = JobListStore(self.connection)
        self.listings = ListingStore(self.connection, self.batches, self.lists)
        self.calls = CallStore(self.connection)
        self.children = ChildStore(self.connection)
        self.call_rows = CallRows(self.connection)
        self.journals = JournalStore(self.connection)
        self.tool_calls = ToolCallStore(self.connection)
        self.workers = WorkerStore(self.connection)
        self.backlog = BacklogStore(self.connection)
        self.limits = LimitStore(self.connection)
        self.cache = CacheStore(self.connection)
        self.audits = AuditStore(self.connection)
        self.webhooks = WebhookStore(self.connection)
