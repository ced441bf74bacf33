"""The composition root of a worker process: what it is made of is built here, once, after the fork."""

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import redis
import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from rlm_dist import chaos
from rlm_dist.blobs import open_blobs
from rlm_dist.cache import Cache
from rlm_dist.calls import Accounts
from rlm_dist.celery_app import SUB_QUEUE, queued, send_root, send_sub
from rlm_dist.context_cache import ContextCache
from rlm_dist.endpoints import endpoints_of
from rlm_dist.errors import Parked, RLMError, Superseded, Unreachable
from rlm_dist.events import JobEnded, JobStarted, Marked
from rlm_dist.fanout import Fanout
from rlm_dist.leases import LEASE_MS, RENEW_S, Every
from rlm_dist.limits import Limits
from rlm_dist.llm import LLM
from rlm_dist.llm.failures import shown_url
from rlm_dist.models import ErrorInfo, JobRecord, JobState, Outcome, Role
from rlm_dist.prices import Prices
from rlm_dist.recovery import Reaper
from rlm_dist.root_calls import RootCalls
from rlm_dist.root_job import Held, Repl, RootJob
from rlm_dist.sandbox.fork_server import start_at
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import find
from rlm_dist.sandbox.probe import choose
from rlm_dist.sandbox.zygote_process import ZygoteProcess
from rlm_dist.settings import Settings
from rlm_dist.store import Ceilings, Store, connect
from rlm_dist.sub_calls import SubCalls
from rlm_dist.texts import Texts
from rlm_dist.trace import TraceSink
from rlm_dist.webhooks import Courier

log = structlog.get_logger()

# A job outlives a Redis that is away for this long; the scripts may all be repeated.
REDIS_PATIENCE_S = 300.0


class Worker:
    """What a root and a sub worker have in common; ``slots`` as in ``LLM``."""

    def __init__(self, app: Celery, settings: Settings, role: Role, *, slots: int | None = None) -> None:
        assert settings.redis_url is not None  # make_app has refused to go on without it
        self.app = app
        self.settings = settings
        self.owner = f"{settings.broker_prefix}{role}@{socket.gethostname()}:{os.getpid()}"
        self._client = connect(settings.redis_url, client_name=f"rlm-{role}")
        self.store = Store(self._client, retention_s=settings.retention_s, patience_s=REDIS_PATIENCE_S)
        blobs = open_blobs(
            settings.blob_url or "redis",
            home=settings.home,
            client=self._client,
            retention_s=settings.retention_s,
        )
        self.texts = Texts(store=self.store, blobs=blobs)
        self.contexts = ContextCache(settings.home / "cache" / "contexts", blobs)
        endpoints = {role: endpoints_of(settings, role) for role in Role}
        self.llm = LLM(
            endpoints,
            call_timeout_s=settings.call_timeout_s,
            cache=Cache(self.store, ttl_s=settings.cache_ttl_s),
            slots=slots,
            limits=Limits(
                # A report that cannot be made now is made anew, so it need not be patient.
                Store(self._client, retention_s=settings.retention_s),
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
        self.accounts = Accounts(
            prices=Prices(settings.prices),
            endpoints=endpoints,
            resolve=self.llm.resolve_model,
        )
        self._requests: dict[str, int] = {}
        self._announcer = Every(self._announce_requests, period_s=RENEW_S, name="requests")
        self._reaper = Reaper(app, self.store, prefix=settings.broker_prefix)
        secret = settings.webhook_secret
        self._courier = Courier(self.store, secret=secret.get_secret_value() if secret else None)

    def close(self) -> None:
        """End the threads and connections made here."""
        self._announcer.close()
        self._reaper.close()
        self._courier.close()
        self.llm.close()
        self._client.close()

    def _announce_requests(self) -> None:
        """Tell operators what is under way; nothing while nothing is."""
        before, self._requests = self._requests, self.llm.on_wire()
        if before or self._requests:
            self.store.announce_requests(self.owner, self._requests, ttl_ms=LEASE_MS)


class RootWorker(Worker):
    """A process that runs root loops, one at a time; ``stopping`` says that its jobs are to be let go.

    ``zygote`` is the fork-server that it shares with the worker's other processes, where there is one.
    """

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        *,
        stopping: Callable[[], bool],
        zygote: ZygoteProcess | None,
    ) -> None:
        super().__init__(app, settings, Role.ROOT)
        self._stopping = stopping
        self._urls = [
            {shown_url(each.url.rstrip("/")) for each in endpoints_of(settings, role)} for role in Role
        ]
        self._repls = start_at(_level(settings), find(settings.sandbox_packages), zygote)

    def close(self) -> None:
        """End the REPLs as well."""
        self._repls.close()
        super().close()

    def run(self, job_id: str) -> None:
        """Bring this job to its end, unless it is final, cancelled, or held by another worker."""
        isolation = self._repls.level.isolation
        epoch = None if self._stopping() else self.store.start_job(job_id, self.owner, LEASE_MS, isolation)
        if epoch is None:
            log.info("job_not_started", job=job_id)
            return
        chaos.point("root.started", job_id)
        record = self.store.job(job_id)
        now_ms = self.store.clock()
        emit = TraceSink(self.store, job_id, self.texts, now_ms=now_ms)
        ran_ms = record.run_ms(now_ms())
        try:
            with Held(
                record, self.store, ran_ms=ran_ms,
                stopping=self._stopping, waits=self._endpoint_away, each_beat=emit.flush,
            ) as held:  # fmt: skip
                outcome = self._outcome(record, held, emit)
                self._finish(record, outcome, emit)
        except Parked as parked:
            self._park(record, parked, emit)
        except Superseded:
            log.warning("job_superseded", job=job_id, epoch=epoch)
        except Unreachable as error:
            # Nothing is lost: whoever reaches Redis first takes the job up once its lease has lapsed.
            log.error("job_left", job=job_id, epoch=epoch, error=str(error))

    def _outcome(self, record: JobRecord, held: Held, emit: TraceSink) -> Outcome:
        context = record.spec.context
        try:
            self.store.patiently(lambda: self.contexts.path(context))  # it may lie in a Redis that is away
            with self.contexts.hold(context) as path:
                return self._job(record, held, emit, path).run()
        except (Parked, Superseded):
            raise
        except RLMError as error:
            if isinstance(error, Unreachable) and error.service == "Redis":
                raise
            return _failed(error)
        except Exception as error:
            log.exception("job_crashed", job=record.spec.id)
            return _failed(RLMError(f"internal error: {type(error).__name__}"))

    def _finish(self, record: JobRecord, outcome: Outcome, emit: TraceSink) -> None:
        emit(
            JobEnded(
                state=outcome.state, answer=outcome.answer, error=outcome.error, iterations=outcome.iterations
            )
        )
        emit.flush()
        chaos.point("root.finishing", record.spec.id)
        self.store.finish_job(record.spec.id, record.epoch, outcome)
        chaos.point("root.finished", record.spec.id)

    def _park(self, record: JobRecord, parked: Parked, emit: TraceSink) -> None:
        emit(Marked(turn=0, kind="parked", detail=parked.why))
        emit.flush()
        send = self.store.park_job(record.spec.id, record.epoch)
        chaos.point("root.parked", record.spec.id)
        if send:
            send_root(self.app, record.spec, again=True)
        log.info("job_parked", job=record.spec.id, epoch=record.epoch, why=parked.why)

    def _job(self, record: JobRecord, held: Held, emit: TraceSink, context_path: Path) -> RootJob:
        spec, epoch = record.spec, record.epoch
        calls = RootCalls(
            spec=spec, epoch=epoch, owner=self.owner,
            store=self.store, texts=self.texts, llm=self.llm, accounts=self.accounts, emit=emit,
        )  # fmt: skip
        fanout = Fanout(
            spec=spec, epoch=epoch, store=self.store, texts=self.texts, accounts=self.accounts,
            send=self._send, queue_is_empty=self._queue_is_empty, emit=emit,
        )  # fmt: skip
        repl = Repl(fanout)
        limits = SandboxLimits(
            code_timeout_s=self.settings.code_timeout_s, max_output_chars=spec.max_output_chars
        )
        if self._repls.level is Level.OFF:
            log.warning("job_not_isolated", job=spec.id)
        sandbox = Sandbox(context_path=context_path, query=repl.query, limits=limits, start=self._repls)
        repl.use(sandbox)
        emit(
            JobStarted(
                job_id=spec.id, epoch=epoch, worker=self.owner.removeprefix(self.settings.broker_prefix),
                model=spec.model, sub_model=spec.sub_model,
                prompts=spec.prompts, isolation=sandbox.isolation, context=spec.context.info,
            )
        )  # fmt: skip
        emit.flush()  # should this process die at once, the trace says that it had the job
        return RootJob(
            record=record, held=held, store=self.store, calls=calls, fanout=fanout, repl=repl, emit=emit
        )

    def _send(self, job_id: str, turn: int, chunks: Sequence[Sequence[str]]) -> None:
        """Put sub tasks on the queue; those that cannot be are sent again when their calls count as lost."""
        try:
            send_sub(self.app, job_id, turn, chunks)
        except (OperationalError, redis.RedisError) as error:
            log.warning("sub_tasks_not_sent", job=job_id, error=type(error).__name__)

    def _endpoint_away(self) -> bool:
        """Whether all endpoints of a role are away, so that no job can do anything for long."""
        away = self.store.away_urls()
        return any(urls <= away for urls in self._urls)

    def _queue_is_empty(self) -> bool:
        """Whether no sub task waits; False where the broker cannot be asked."""
        try:
            return queued(self.app, SUB_QUEUE) == [0]
        except (OperationalError, OSError, redis.RedisError):
            return False


class SubWorker(Worker):
    """A process that runs sub-calls, many at once; ``wants_more`` as in ``SubCalls``."""

    def __init__(
        self, app: Celery, settings: Settings, *, slots: int, wants_more: Callable[[], None]
    ) -> None:
        super().__init__(app, settings, Role.SUB, slots=slots)
        self._slots = slots
        self.calls = SubCalls(
            store=self.store, texts=self.texts, llm=self.llm, accounts=self.accounts,
            owner=self.owner, slots=slots, wants_more=wants_more,
        )  # fmt: skip
        self._heart = Every(self._beat, period_s=RENEW_S, name="leases")

    def close(self) -> None:
        """End the threads and connections made here."""
        self._heart.close()
        self.calls.close()
        super().close()

    def _beat(self) -> None:
        self.store.announce_slots(self.owner, self._slots, ttl_ms=LEASE_MS)
        held = self.calls.held()
        if held:
            unwanted = self.store.renew_calls(self.owner, held, LEASE_MS)
            self.calls.abort(unwanted.cancelled)
            for job_id in unwanted.ended:
                self.llm.drop(job_id)
        self.calls.look()


def start_zygote(settings: Settings) -> ZygoteProcess | None:
    """Start the fork-server for all processes of a root worker; None at the level that has none.

    Raises:
        SandboxError: it cannot be started.
    """
    level = _level(settings)
    return None if level is Level.OFF else ZygoteProcess(level, find(settings.sandbox_packages))


def _level(settings: Settings) -> Level:
    return choose(settings.sandbox, settings.sandbox_min, settings.sandbox_packages)


def _failed(error: RLMError) -> Outcome:
    return Outcome(state=JobState.FAILED, error=ErrorInfo(type=type(error).__name__, message=str(error)))
