"""The Python API: submit jobs and batches to the cluster, and return to them later.

A job's context is stored first, then its record; then a message is sent to the root workers. Each step may
be repeated: the id of a batch's job is computed from the batch's id and the job's own. So submitting the same
batch again continues where the first attempt broke off, or attaches to the batch if it is complete.
"""

import copy
import hashlib
import json
import logging
import random
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Unpack

import celery
import redis

from rlm_dist.blobs.payloads import open_storage
from rlm_dist.broker.app import make_app
from rlm_dist.broker.publish import send_root
from rlm_dist.client.batch_file import BatchFile, BatchList, file_rules
from rlm_dist.client.batch_item import BatchItem, read_item
from rlm_dist.client.context_upload import StoredJob, upload_contexts
from rlm_dist.client.handles import Batch, ClusterAccess, Job
from rlm_dist.client.job_specs import JobSpecFactory, options_of
from rlm_dist.client.option_types import RetryOptions, SubmitBatchOptions, SubmitOptions
from rlm_dist.client.options import (
    JobOptions,
    read_batch_options,
    read_budget,
    read_options,
    read_raised,
)
from rlm_dist.client.session import (
    Session,
    SessionState,
    encoded_context,
    new_session_id,
    stored_session,
)
from rlm_dist.client.tags import read_tags
from rlm_dist.contexts.encoding import Encoded, store_context
from rlm_dist.errors import ClientClosed, InputError
from rlm_dist.local.cluster import no_worker, own_queue, workers
from rlm_dist.local.home import is_up, with_redis
from rlm_dist.local.preload import Preload
from rlm_dist.otel.attributes import submit_attributes
from rlm_dist.otel.spans import FinishedSpan, Spans, job_span
from rlm_dist.otel.start import missing_extra, open_spans
from rlm_dist.schema import BatchState, ContextRef, JobSpec, SessionPlace, session_job_id
from rlm_dist.settings import Settings, load_settings
from rlm_dist.store import connect, reaching

log = logging.getLogger(__name__)
REDIS_PATIENCE_S = 60.0
_BATCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class JobSource(Protocol):
    """Checked jobs: a ``BatchFile`` or a ``BatchList``, and the largest ``max_depth`` that one sets."""

    digest: str
    total: int
    deepest: int

    def items(self) -> Iterator[BatchItem]:
        """The jobs in order."""


def new_batch_id() -> str:
    """A random name for a batch."""
    return f"b{uuid.uuid4().hex[:12]}"


class Client:
    """A connection to the cluster; a context manager that closes it.

    If no Redis is configured, the client starts an embedded server, and a root and a sub worker as soon as
    there is work for them, unless ``rlm-dist up`` runs for the same ``RLM_HOME``. They end with the client.

    Raises:
        SettingsError: if a setting has a value that cannot be used.
        Unreachable: if Redis does not answer, or the embedded server cannot be started.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        redis_url: str | None = None,
        preloaded: Preload | None = None,
    ) -> None:
        """``preloaded``: forks the client's first workers."""
        self._shared_with: Client | None = None
        configured = settings or load_settings()
        if redis_url is not None:
            configured = configured.model_copy(update={"redis_url": redis_url})
        self._resources = ExitStack()
        self._finalizer = weakref.finalize(self, self._resources.close)
        try:
            self.settings = self._resources.enter_context(with_redis(configured))
            embedded = configured.redis_url is None and not is_up(configured.home)
            if embedded and not configured.broker_prefix:  # else our caller has chosen the queue
                self.settings = own_queue(self.settings)
            self._connect()
        except BaseException:
            self.close()
            raise
        own = bool(self.settings.broker_prefix)
        self._waker = _Waker(self.settings, self._resources, preloaded) if own else None

    def _connect(self) -> None:
        assert self.settings.redis_url is not None  # with_redis sets it
        connection: redis.Redis = connect(self.settings.redis_url, client_name="rlm-client")
        self._resources.callback(connection.close)
        self._app: celery.Celery = self._resources.enter_context(make_app(self.settings))
        with reaching(connection):
            connection.ping()  # a wrong address fails at once; later outages are waited out
        self.store, self.blobs, self._payloads = open_storage(
            connection,
            blob_url=self.settings.blob_url,
            home=self.settings.home,
            retention_s=self.settings.retention_s,
            patience_s=REDIS_PATIENCE_S,
        )
        self._resources.callback(self.store.connection.close)  # what still waits for Redis then ends at once
        self._specs = JobSpecFactory(self.settings)

    def close(self) -> None:
        """Close the connections and stop what was started; jobs that have not ended stay in the store."""
        self._finalizer()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def with_settings(self, **changes: object) -> "Client":
        """This client with other settings for the jobs that it submits, such as ``early_final``.

        It shares the connections and workers of this one, and ends with it.
        """
        other = copy.copy(self)
        other._shared_with = self  # which must not be closed by the garbage collector before
        other._specs = JobSpecFactory(self.settings.model_copy(update=changes))
        return other

    def _cluster(self) -> ClusterAccess:
        return ClusterAccess(self.store, self.blobs, self._payloads, self._wake_workers, owner=self)

    def _wake_workers(self, max_depth: int | None = 1) -> None:
        """Start the client's own workers, or check that there are workers for all depths of such jobs."""
        if not self._finalizer.alive:
            raise ClientClosed
        if self._waker is not None:
            self._waker(max_depth or 1)
            return
        missing = self.store.workers.missing_depths(max_depth or 1)
        if missing:
            raise InputError((no_worker(missing, f"max_depth {max_depth}"),))

    def pickled(self, handle: Job | Batch) -> tuple[Callable[..., Job | Batch], tuple[str, ...]]:
        """How a handle is made again in another process; its parts hold no address and no password."""
        return (_job_again if isinstance(handle, Job) else _batch_again), (handle.id,)

    def job(self, job_id: str) -> Job:
        """A job that was submitted before."""
        return Job(self._cluster(), job_id)

    def batch(self, batch_id: str) -> Batch:
        """A batch that was submitted before."""
        return Batch(self._cluster(), batch_id)

    def submit(
        self,
        context: object,
        query: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Submit one job.

        Args:
            context: a str, a list of str, a dict of str to str, any other JSON value, the ``Path`` of a file
                or of a folder (a list of documents), or what ``contexts.encode_files`` returned.
            query: the question about the context.
            metadata: the caller's own JSON values, stored with the job.
            tags: up to 16 names with values, by which jobs are listed and costs are split.
            options: see ``SubmitOptions``.

        Raises:
            InputError: if context or query is empty, or an option is unknown or bad.
        """
        job_id = f"j{uuid.uuid4().hex[:20]}"
        line = {"id": job_id, "query": query, "context": "", "metadata": dict(metadata or {})}
        job_options = read_options(options).over(self._defaults)
        job_tags = read_tags(tags or {})
        item = read_item(line, Path())
        encoded = encoded_context(context)
        self._wake_workers(job_options.max_depth)
        ref = store_context(encoded, self.blobs)
        self._enqueue([self._specs.make(item, job_options, ref, job_id=job_id, tags=job_tags)])
        return self.job(job_id)

    def session(self, context: object, **options: Unpack[SubmitOptions]) -> Session:
        """Open a session over a context: queries that share a REPL and its variables; see docs/sessions.md.

        The arguments are those of ``submit``; the limits are those of each query. Nothing is stored but the
        context until the first query.
        """
        own = read_options(options)
        ref = self.store_encoded(encoded_context(context))
        return Session(self, self.store.jobs, SessionState(new_session_id(), ref, own))

    def reopen_session(self, session_id: str, **options: Unpack[SubmitOptions]) -> Session:
        """Continue a session that has had a query, here or in another process; ``options`` replace its own.

        Raises:
            NotFound: if it does not exist, or its retention is over.
        """
        state = stored_session(self.store.jobs, session_id)
        own = read_options(options).over(state.options)
        return Session(self, self.store.jobs, state._replace(options=own))

    def store_encoded(self, encoded: Encoded) -> ContextRef:
        """Store a context; one that no job uses expires after a retention time."""
        return store_context(encoded, self.blobs)

    def submit_in_session(
        self, place: SessionPlace, context: ContextRef, query: str, options: JobOptions
    ) -> Job | None:
        """Submit the job at a place of a session; None if that place is taken."""
        job_id = session_job_id(place.id, place.position)
        item = read_item({"id": job_id, "query": query, "context": ""}, Path())
        self._wake_workers()
        job_options = options.over(self._defaults)
        (created,) = self._enqueue(
            [self._specs.make(item, job_options, context, job_id=job_id, session=place)]
        )
        return self.job(job_id) if created else None

    def submit_batch(
        self,
        items: Iterable[Mapping[str, Any]],
        batch_id: str | None = None,
        *,
        context_root: str | Path | None = None,
        cap: bool = False,
        **options: Unpack[SubmitBatchOptions],
    ) -> Batch:
        """Submit jobs together, each a dict like a line of a batch file, in either form.

        The same batch id with the same items attaches to the existing batch.

        Args:
            items: the jobs.
            batch_id: a name for the batch; the default is a random one.
            context_root: a folder in which, or below which, a ``context_file`` may be, besides the working
                directory (for ``submit_file``, the file's folder). The setting ``context_urls`` allows URLs.
            cap: whether the options are ceilings that no job may exceed; see docs/batches.md.
            options: those of ``submit``, for jobs that do not set them; ``batch_max_usd`` and
                ``batch_max_tokens``, budgets that all jobs share, and ``tags``, as for ``submit`` (they
                replace those of an existing batch); and ``webhook``, an address that is notified when a
                new batch ends.

        Raises:
            InputError: listing every bad item; nothing is submitted then. Also if the batch id is in use
                for other items.
        """
        rules = file_rules("-", self.settings, context_root)
        jobs = BatchList(items, rules=rules, ceilings=self._ceilings(options) if cap else None)
        return self.submit_checked(jobs, batch_id, **options)

    def submit_file(
        self,
        path: str | Path,
        batch_id: str | None = None,
        *,
        skip_invalid: bool = False,
        context_root: str | Path | None = None,
        cap: bool = False,
        **options: Unpack[SubmitBatchOptions],
    ) -> Batch:
        """Submit the jobs of a batch file, read as a stream; otherwise like ``submit_batch``."""
        rules = file_rules(path, self.settings, context_root)
        ceilings = self._ceilings(options) if cap else None
        jobs = BatchFile(path, skip_invalid=skip_invalid, rules=rules, ceilings=ceilings)
        return self.submit_checked(jobs, batch_id, **options)

    def _ceilings(self, options: Mapping[str, object]) -> JobOptions:
        return read_batch_options(options)[1].over(self._defaults)

    def submit_checked(
        self, jobs: JobSource, batch_id: str | None = None, **options: Unpack[SubmitBatchOptions]
    ) -> Batch:
        """Submit jobs that are already checked; otherwise like ``submit_batch``."""
        batch, defaults = self._open_batch(jobs, batch_id, options)
        if not batch.record().sealed:
            self._fill(batch.id, jobs, defaults)
            self.store.batches.seal(batch.id)
        return batch

    def submit_pilot(
        self, jobs: JobSource, count: int, batch_id: str | None = None, **options: Unpack[SubmitBatchOptions]
    ) -> tuple[Batch, list[Job]]:
        """Submit ``count`` jobs, drawn at random; ``submit_checked`` submits the others.

        Each of ``count`` equal parts of the batch gives one. The same batch gives the same jobs. Returns the
        batch and these jobs.
        """
        batch, defaults = self._open_batch(jobs, batch_id, options)
        count = min(count, jobs.total)
        positions = _draw(jobs.digest, jobs.total, count)
        if not batch.record().sealed:
            self._fill(batch.id, jobs, defaults, set(positions))
        return batch, [self.job(job_id) for job_id in self.store.batches.job_ids_at(batch.id, positions)]

    def _open_batch(
        self, jobs: JobSource, batch_id: str | None, options: Mapping[str, object]
    ) -> tuple[Batch, JobOptions]:
        """The batch, created if it does not exist, and the defaults for options that a job does not set."""
        batch_options, job_options = read_batch_options(options)
        self._wake_workers(max(jobs.deepest, job_options.max_depth or 1))
        if batch_id is None:
            batch_id = new_batch_id()
        elif not _BATCH_ID.fullmatch(batch_id):
            raise InputError((f"batch id {batch_id!r}: must be up to 128 letters, digits, '.', '_' and '-'",))
        limits = (batch_options.max_nanousd, batch_options.batch_max_tokens)
        webhook = batch_options.webhook
        created = self.store.batches.create(
            batch_id, jobs.digest, jobs.total, *limits, webhook=webhook, tags=batch_options.tags
        )
        if not created:
            self.store.batches.set_budget(batch_id, *limits, tags=batch_options.tags)
        return self.batch(batch_id), job_options.over(self._defaults)

    def retry(self, batch_id: str, **options: Unpack[RetryOptions]) -> int:
        """Run again the jobs of a batch that ended without an answer; return their number.

        They keep their ids, their ledgers and the calls that were answered. A new budget replaces the
        batch's; what was spent before counts against it. A job that a limit of its own ended (``max_usd``,
        ``max_iterations``, ``max_tokens``, ``max_sub_calls`` or ``max_seconds``) is left out, unless
        ``raised`` has a higher value for this limit.

        Raises:
            NotFound: if the batch does not exist, or its retention is over.
            InputError: if a budget or limit is bad.
        """
        limits = read_raised(options.pop("raised", None) or {})
        budget = read_budget(**options)
        self.store.batches.set_budget(batch_id, budget.max_nanousd, budget.batch_max_tokens)
        job_ids = self.store.batches.retry(batch_id, limits)
        if job_ids:
            specs = [job.spec for job in self.store.jobs.records(job_ids) if job]
            self._wake_workers(max((spec.limits.max_depth for spec in specs), default=1))
            send_root(self._app, *specs, retried=True)
        return len(job_ids)

    def _fill(
        self, batch_id: str, jobs: JobSource, defaults: JobOptions, positions: Container[int] | None = None
    ) -> None:
        """Submit the jobs of a batch, or only those at ``positions``."""
        items = ((n, item) for n, item in enumerate(jobs.items()) if positions is None or n in positions)
        with ThreadPoolExecutor(1) as sender:  # sends one chunk while the next is prepared
            sending: Future[list[bool]] | None = None
            for chunk in upload_contexts(items, self.blobs):
                specs = [self._batch_spec(job, batch_id, defaults) for job in chunk]
                if sending is not None:
                    sending.result()
                if self.store.batches.get(batch_id).state is BatchState.CANCELLED:
                    break
                sending = sender.submit(self._enqueue, specs)
            if sending is not None:
                sending.result()

    def _batch_spec(self, job: StoredJob, batch_id: str, defaults: JobOptions) -> JobSpec:
        index, item, context = job
        options = item.options.over(defaults)
        job_id = _job_id(batch_id, item)
        return self._specs.make(item, options, context, job_id=job_id, batch_id=batch_id, index=index)

    @cached_property
    def _defaults(self) -> JobOptions:
        """The values of the settings that have the name of an option, for jobs that do not set it."""
        return options_of(self.settings)

    @cached_property
    def _spans(self) -> Spans:
        """Opened by the first submission: a program that only looks sends nothing."""
        missing = missing_extra()
        if missing:
            log.warning(missing)
        spans = open_spans(content=self.settings.otel_content, warn=log.warning)
        self._resources.callback(spans.close)
        return spans

    def _enqueue(self, specs: Sequence[JobSpec]) -> list[bool]:
        """Create the jobs that do not exist, and send messages for all; return which were created."""
        # Messages go out for jobs that already existed, too: the process that created them may have died
        # before it sent theirs, and an extra message does no harm.
        began_ns = time.time_ns()
        created = self.store.jobs.create(specs)
        send_root(self._app, *specs)
        for spec in specs if self._spans.on else ():
            self._spans.record(
                FinishedSpan(
                    job_id=spec.id, name="submit", began_ns=began_ns, ended_ns=time.time_ns(),
                    attributes=submit_attributes(spec), parent=job_span(spec.id),
                    kind="producer", links_caller=True,
                )
            )  # fmt: skip
        return created


class _Waker:
    """Starts the client's own workers when they are first needed: those of a depth with its first job."""

    def __init__(self, settings: Settings, resources: ExitStack, preloaded: Preload | None) -> None:
        self._settings = settings
        self._preloaded = preloaded
        self._resources = resources
        self._lock = threading.Lock()
        self._depths = 0

    def __call__(self, max_depth: int) -> None:
        with self._lock:
            wanted = range(self._depths, max(max_depth, self._settings.max_depth))
            if wanted:
                subs = 0 if self._depths else 1
                own_workers = workers(
                    self._settings, roots=1, subs=subs, depths=wanted, preloaded=self._preloaded
                )
                self._resources.enter_context(own_workers)
                self._preloaded = None  # it forks once
                self._depths = wanted.stop


@cache
def _own_client() -> Client:
    """This process's client for handles that are unpickled here."""
    return Client()


def _job_again(job_id: str) -> Job:
    return _own_client().job(job_id)


def _batch_again(batch_id: str) -> Batch:
    return _own_client().batch(batch_id)


def _draw(digest: str, total: int, count: int) -> list[int]:
    """One random position in each of ``count`` equal parts of 0 … ``total``; the digest is the seed."""
    draw = random.Random(digest)
    bounds = [n * total // count for n in range(count + 1)]
    return [draw.randrange(low, high) for low, high in pairwise(bounds)]


def _job_id(batch_id: str, item: BatchItem) -> str:
    return f"j{hashlib.sha256(json.dumps([batch_id, item.custom_id]).encode()).hexdigest()[:20]}"
