"""The Python API: submit jobs and batches to the cluster, and come back to them.

A job's context is stored first, then its record, then a message is sent to the root workers. Each step may
be repeated: ids of a batch's jobs follow from the batch's id and their own, so that whoever submits the same
batch again goes on where the first attempt broke off, and otherwise attaches to what is there.
"""

import hashlib
import json
import re
import threading
import uuid
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import celery
import redis

from rlm_dist.blobs.payloads import open_storage
from rlm_dist.broker.app import make_app
from rlm_dist.broker.publish import send_root
from rlm_dist.client.batch_file import BatchFile, BatchList
from rlm_dist.client.batch_item import BatchItem, read_item
from rlm_dist.client.context_upload import StoredJob, upload_contexts
from rlm_dist.client.handles import Batch, ClusterAccess, Job
from rlm_dist.client.job_specs import JobSpecFactory
from rlm_dist.client.options import JobOptions, read_batch_options, read_budget, read_options
from rlm_dist.contexts.encoding import Encoded, encode, store_context
from rlm_dist.errors import InputError
from rlm_dist.local.cluster import is_up, own_queue, with_redis, workers
from rlm_dist.schema import BatchState, JobSpec
from rlm_dist.settings import Settings, load_settings
from rlm_dist.store import connect, reaching

REDIS_PATIENCE_S = 60.0
_BATCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class JobSource(Protocol):
    """Jobs that are checked: a ``BatchFile`` or a ``BatchList``."""

    digest: str
    total: int

    def items(self) -> Iterator[BatchItem]:
        """The jobs in order."""


class Client:
    """A connection to the cluster; a context manager that closes it.

    Where no Redis is configured, an embedded server is started, and a root and a sub worker once there is
    work for them, unless ``rlm-dist up`` runs for the same ``RLM_HOME``. They end with the client.

    Raises:
        SettingsError: where a setting has a value that cannot be used.
        Unreachable: where Redis does not answer, or the embedded server cannot be started.
    """

    def __init__(self, settings: Settings | None = None, *, redis_url: str | None = None) -> None:
        given = settings or load_settings()
        if redis_url is not None:
            given = given.model_copy(update={"redis_url": redis_url})
        self._held = ExitStack()
        self._finalizer = weakref.finalize(self, self._held.close)
        try:
            self.settings = self._held.enter_context(with_redis(given))
            if given.redis_url is None and not is_up(given.home):
                self.settings = own_queue(self.settings)
            self._connect()
        except BaseException:
            self.close()
            raise
        self._wake: Callable[[], None] = (
            _Waker(self.settings, self._held) if self.settings.broker_prefix else _nothing
        )

    def _connect(self) -> None:
        assert self.settings.redis_url is not None  # with_redis has seen to it
        connection: redis.Redis = connect(self.settings.redis_url, client_name="rlm-client")
        self._held.callback(connection.close)
        self._app: celery.Celery = self._held.enter_context(make_app(self.settings))
        with reaching(connection):
            connection.ping()  # a wrong address is told at once, an outage later on is waited for
        self.store, self.blobs, self._payloads = open_storage(
            connection, self.settings, patience_s=REDIS_PATIENCE_S
        )
        self._specs = JobSpecFactory(self.settings)

    def close(self) -> None:
        """Close the connections, and end what was started; jobs that have not ended stay in the store."""
        self._finalizer()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _cluster(self) -> ClusterAccess:
        return ClusterAccess(self.store, self._payloads, self._wake, owner=self)

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
        **options: object,
    ) -> Job:
        """Submit one job.

        Args:
            context: a str, a list of str, a dict of str to str, any other JSON value, or what
                ``contexts.encode_files`` returned.
            query: what is asked about it.
            metadata: JSON values of the caller's own, kept with the job.
            options: ``model``, ``sub_model``, ``max_iterations``, ``max_usd``, ``max_tokens``,
                ``max_sub_calls``, ``max_seconds``, ``max_depth``, ``on_divergence`` (``warn`` or ``fail``:
                what becomes of a job whose worker died where its code, run again, comes out otherwise),
                ``cache`` (True: sub-calls may be answered by what other jobs were answered to the same),
                ``priority`` (``high``, ``normal`` or ``low``: the order in which jobs that wait are started);
                and what the calls say to the endpoint: ``temperature``, ``max_output_tokens``,
                ``reasoning_effort``, ``extra_body`` (a dict of further fields) for the root model, the same
                with ``sub_`` before them for the sub model.

        Raises:
            InputError: where context or query is empty, or an option is unknown or bad.
        """
        job_id = f"j{uuid.uuid4().hex[:20]}"
        line = {"id": job_id, "query": query, "context": "", "metadata": dict(metadata or {})}
        given = read_options(options).over(self._defaults)
        item = read_item(line, Path())
        encoded = context if isinstance(context, Encoded) else encode(context)
        self._wake()
        ref = store_context(encoded, self.blobs)
        self._enqueue([self._specs.make(item, given, ref, job_id=job_id)])
        return self.job(job_id)

    def submit_batch(
        self, items: Iterable[Mapping[str, Any]], batch_id: str | None = None, **options: object
    ) -> Batch:
        """Submit jobs together, each a dict as a line of a batch file, in either form.

        The same batch id with the same items attaches to the batch that is there.

        Args:
            items: the jobs.
            batch_id: a name for the batch; one is made up where it is not given.
            options: those of ``submit``, for jobs that do not give them; ``batch_max_usd`` and
                ``batch_max_tokens``, which all jobs together may use (a budget of a batch that is there is
                replaced); and ``webhook``, an address that is told of the end of a new batch.

        Raises:
            InputError: listing every bad item; nothing is submitted then. Also where the batch id is in use
                for other items.
        """
        return self.submit_checked(BatchList(items), batch_id, **options)

    def submit_file(
        self, path: str | Path, batch_id: str | None = None, *, skip_invalid: bool = False, **options: object
    ) -> Batch:
        """Submit the jobs of a batch file, read as a stream; else as ``submit_batch``."""
        return self.submit_checked(BatchFile(path, skip_invalid=skip_invalid), batch_id, **options)

    def submit_checked(self, jobs: JobSource, batch_id: str | None = None, **options: object) -> Batch:
        """Submit jobs that are checked already; else as ``submit_batch``."""
        batch, defaults = self._opened(jobs, batch_id, options)
        if not batch.record().sealed:
            self._fill(batch.id, jobs, defaults)
            self.store.batches.seal(batch.id)
        return batch

    def submit_pilot(
        self, jobs: JobSource, count: int, batch_id: str | None = None, **options: object
    ) -> tuple[Batch, list[Job]]:
        """Submit ``count`` jobs, spread evenly over the batch; ``submit_checked`` submits the others.

        Returns the batch and the jobs; those of a batch that was submitted before are its first ones.
        """
        batch, defaults = self._opened(jobs, batch_id, options)
        count = min(count, jobs.total)
        if not batch.record().sealed:
            self._fill(batch.id, jobs, defaults, {place * jobs.total // count for place in range(count)})
        return batch, [self.job(job_id) for job_id in self.store.batches.job_ids(batch.id, 0, count)]

    def _opened(
        self, jobs: JobSource, batch_id: str | None, options: Mapping[str, object]
    ) -> tuple[Batch, JobOptions]:
        """The batch, made where it is not there, and the options of jobs that give none of their own."""
        own, of_jobs = read_batch_options(options)
        if batch_id is None:
            batch_id = f"b{uuid.uuid4().hex[:12]}"
        elif not _BATCH_ID.fullmatch(batch_id):
            raise InputError(
                (f"batch id {batch_id!r}: must be letters, digits, '.', '_' and '-', up to 128",)
            )
        limits = (own.max_nanousd, own.batch_max_tokens)
        if not self.store.batches.create(batch_id, jobs.digest, jobs.total, *limits, webhook=own.webhook):
            self.store.batches.set_budget(batch_id, *limits)
        return self.batch(batch_id), of_jobs.over(self._defaults)

    def retry(
        self,
        batch_id: str,
        *,
        batch_max_usd: float | Decimal | None = None,
        batch_max_tokens: int | None = None,
    ) -> int:
        """Run those jobs of a batch again that ended without an answer; returns how many.

        They keep their ids, their ledgers and the calls that were answered. A budget that is given replaces
        that of the batch; what was spent before counts against it.

        Raises:
            NotFound: where there is no such batch, or its retention is over.
            InputError: where a budget is bad.
        """
        budget = read_budget(batch_max_usd=batch_max_usd, batch_max_tokens=batch_max_tokens)
        self.store.batches.set_budget(batch_id, budget.max_nanousd, budget.batch_max_tokens)
        job_ids = self.store.batches.retry(batch_id)
        if job_ids:
            self._wake()
            send_root(self._app, *(job.spec for job in self.store.jobs.records(job_ids) if job))
        return len(job_ids)

    def _fill(
        self, batch_id: str, jobs: JobSource, defaults: JobOptions, chosen: Container[int] | None = None
    ) -> None:
        """Submit the jobs of a batch, or those at the ``chosen`` places."""
        self._wake()
        items = ((n, item) for n, item in enumerate(jobs.items()) if chosen is None or n in chosen)
        with ThreadPoolExecutor(1) as sender:  # sends one chunk while the next is made ready
            sent: Future[None] | None = None
            for chunk in upload_contexts(items, self.blobs):
                specs = [self._of_batch(ready, batch_id, defaults) for ready in chunk]
                if sent is not None:
                    sent.result()
                if self.store.batches.get(batch_id).state is BatchState.CANCELLED:
                    break
                sent = sender.submit(self._enqueue, specs)
            if sent is not None:
                sent.result()

    def _of_batch(self, ready: StoredJob, batch_id: str, defaults: JobOptions) -> JobSpec:
        index, item, context = ready
        options = item.options.over(defaults)
        job_id = _job_id(batch_id, item)
        return self._specs.make(item, options, context, job_id=job_id, batch_id=batch_id, index=index)

    @cached_property
    def _defaults(self) -> JobOptions:
        """What a job does not give comes from the setting of the same name, where there is one."""
        names = JobOptions.model_fields.keys() & Settings.model_fields.keys()
        return JobOptions.model_validate({name: getattr(self.settings, name) for name in names})

    def _enqueue(self, specs: Sequence[JobSpec]) -> None:
        # Also those that were there already: whoever made them may have died before it sent their messages,
        # and a message too many does no harm.
        self.store.jobs.create(specs)
        send_root(self._app, *specs)


class _Waker:
    """Starts workers of our own when they are first needed."""

    def __init__(self, settings: Settings, held: ExitStack) -> None:
        self._settings = settings
        self._held = held
        self._lock = threading.Lock()
        self._started = False

    def __call__(self) -> None:
        with self._lock:
            if not self._started:
                self._held.enter_context(workers(self._settings, roots=1, subs=1))
                self._started = True


def _nothing() -> None:
    pass


def _job_id(batch_id: str, item: BatchItem) -> str:
    return f"j{hashlib.sha256(json.dumps([batch_id, item.custom_id]).encode()).hexdigest()[:20]}"
