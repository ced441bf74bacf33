"""The parts that root and sub worker processes share, built once per process."""

import os
import socket
from collections.abc import Mapping, Sequence
from functools import partial

import structlog
from celery import Celery

from rlm_dist.blobs.payloads import open_storage
from rlm_dist.blobs.sweep import sweep
from rlm_dist.broker.app import message_lists
from rlm_dist.contexts.cache import ContextCache
from rlm_dist.llm import LLM
from rlm_dist.llm.endpoints import Endpoint, endpoints_of
from rlm_dist.llm.limiter import LimiterRegistry
from rlm_dist.llm.prices import Prices
from rlm_dist.llm.single_flight import SingleFlightCache
from rlm_dist.otel.start import open_spans
from rlm_dist.schema import Role
from rlm_dist.schema.leases import LEASE_MS, RENEW_S, SWEEP_S
from rlm_dist.schema.limits import Ceilings
from rlm_dist.settings import Settings
from rlm_dist.store import Store, connect
from rlm_dist.worker.accounts import Accounts
from rlm_dist.worker.heartbeats import PeriodicThread
from rlm_dist.worker.metrics import Unmeasured
from rlm_dist.worker.reaper import Reaper
from rlm_dist.worker.webhook_sender import WebhookSender, post

log = structlog.get_logger()
# Jobs survive Redis being away for this long; every script may be repeated.
REDIS_PATIENCE_S = 300.0
# Each process looks every SWEEP_S, and one of them publishes the backlog.
_BACKLOG_EVERY_MS = int(SWEEP_S * 1000) - 500
# The same, for old blobs.
_SWEEP_BLOBS_S = 60.0
_SWEEP_BLOBS_EVERY_MS = 3_600_000


class Worker:
    """The base of a root and a sub worker process.

    ``slots`` is that of ``LLM``; ``jobs`` is how many jobs this process announces that it runs at once.
    """

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        role: Role,
        *,
        metrics: Unmeasured,
        slots: int | None = None,
        jobs: int = 0,
    ) -> None:
        assert settings.redis_url is not None  # make_app refuses to start without it
        self.app = app
        self.settings = settings
        self.owner = f"{settings.broker_prefix}{role}@{socket.gethostname()}:{os.getpid()}"
        self.spans = open_spans(
            content=settings.otel_content, warn=lambda why: log.warning("spans_not_sent", why=why)
        )
        self._client = connect(settings.redis_url, client_name=f"rlm-{role}")
        # Workers may run on several machines, which do not see each other's folders: so the default is Redis.
        self.store, self.blobs, self.payloads = open_storage(
            self._client,
            blob_url=settings.blob_url or "redis",
            home=settings.home,
            retention_s=settings.retention_s,
            patience_s=REDIS_PATIENCE_S,
        )
        self.contexts = ContextCache(settings.home / "cache" / "contexts", self.blobs)
        # Read once: what is written into the file while jobs run is for workers that start later.
        self.endpoints = {each: endpoints_of(settings, each) for each in Role}
        self.llm = self._open_llm(role, self.endpoints, slots)
        self.accounts = Accounts(
            prices=Prices(settings.prices),
            endpoints=self.endpoints,
            resolve=self.llm.resolve_model,
            on_end=metrics.call_ended,
        )
        self.metrics = metrics
        self._requests: dict[str, int] = {}
        self._announcer = PeriodicThread(self._announce_requests, period_s=RENEW_S, name="requests")
        self._reaper = Reaper(app, self.store, prefix=settings.broker_prefix, max_depth=_depths(settings))
        self._jobs = jobs
        self._backlog = PeriodicThread(
            self._publish_backlog, period_s=SWEEP_S, name="backlog", at_once=role is Role.ROOT
        )
        self._sweeper = PeriodicThread(self._sweep_blobs, period_s=_SWEEP_BLOBS_S, name="blobs")
        secret = settings.webhook_secret
        self._webhook_sender = WebhookSender(
            self.store,
            secret=secret.get_secret_value() if secret else None,
            post=partial(post, private=settings.webhook_private),
        )

    def _open_llm(self, role: Role, endpoints: Mapping[Role, Sequence[Endpoint]], slots: int | None) -> LLM:
        """The client of the model endpoints, whose limits this process shares with all others."""
        settings = self.settings
        return LLM(
            endpoints,
            call_timeout_s=settings.call_timeout_s,
            cache=SingleFlightCache(
                self.store.cache, ttl_s=settings.cache_ttl_s, keep_thoughts=settings.keep_thoughts
            ),
            keep_thoughts=settings.keep_thoughts,
            slots=slots,
            limits=LimiterRegistry(
                # A report that fails is sent again later, so this store need not wait for Redis.
                Store(self._client, retention_s=settings.retention_s).limits.share,
                owner=self.owner,
                gives_back=role is Role.SUB,
                outage_s=settings.outage_s,
                ceilings=Ceilings(
                    in_flight=settings.max_in_flight,
                    requests_per_min=settings.max_requests_per_min,
                    tokens_per_min=settings.max_tokens_per_min,
                ),
            ),
        )  # fmt: skip

    def close(self) -> None:
        """Close the threads and connections made here."""
        self._announcer.close()
        self._backlog.close()
        self._reaper.close()
        self._sweeper.close()
        self._webhook_sender.close()
        self.llm.close()
        self.spans.close()
        self._client.close()

    def _publish_backlog(self) -> None:
        """Announce this process if it runs jobs, and publish the backlog unless another worker just has."""
        if self._jobs:
            depth = self.settings.root_depth
            self.store.workers.announce_slots(self.owner, self._jobs, LEASE_MS, role=Role.ROOT, depth=depth)
        self.store.backlog.publish(
            message_lists(self.settings.broker_prefix, _depths(self.settings)),
            prefix=self.settings.broker_prefix,
            owner=self.owner,
            every_ms=_BACKLOG_EVERY_MS,
            ttl_ms=LEASE_MS,
            max_depth=_depths(self.settings),
        )

    def _sweep_blobs(self) -> None:
        """Remove blobs from a folder whose retention is over; of all workers, one does so in an hour."""
        if self.store.workers.has_turn("blobs", self.owner, every_ms=_SWEEP_BLOBS_EVERY_MS):
            sweep(self.blobs, self.store.jobs, retention_s=self.settings.retention_s)

    def _announce_requests(self) -> None:
        """Publish the requests in flight for operators; write nothing while there are none."""
        previous, self._requests = self._requests, self.llm.on_wire()
        if previous or self._requests:
            self.store.workers.announce_requests(self.owner, self._requests, ttl_ms=LEASE_MS)


def _depths(settings: Settings) -> int:
    """How many depths have queues, as far as this process knows."""
    return max(settings.max_depth, settings.root_depth + 1)
