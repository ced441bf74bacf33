"""The worker process that runs root loops, many at once: from taking up a job to its outcome."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import redis
import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from prometheus_client.metrics_core import Metric
from structlog.contextvars import bind_contextvars, clear_contextvars

from rlm_dist.broker.app import SUB_QUEUE
from rlm_dist.broker.publish import SubTasks, queued, send_root, send_sub
from rlm_dist.engine.compaction import RootWindow
from rlm_dist.engine.journal import bounded_partial
from rlm_dist.errors import (
    Cancelled,
    LimitExceeded,
    NotFound,
    Parked,
    RLMError,
    SandboxError,
    Superseded,
    Unreachable,
)
from rlm_dist.llm.failures import shown_url
from rlm_dist.llm.prices import published_window
from rlm_dist.root_worker.answer_review import make_review
from rlm_dist.root_worker.children import ChildJobs
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.job import RootJob
from rlm_dist.root_worker.job_lease import JobLease
from rlm_dist.root_worker.job_log import log_end, log_park, log_start
from rlm_dist.root_worker.job_spans import JobSpans
from rlm_dist.root_worker.job_tools import JobTools, named_tools
from rlm_dist.root_worker.journal_writer import JournalWriter
from rlm_dist.root_worker.lease_keeper import LeaseKeeper
from rlm_dist.root_worker.model_windows import ModelWindows, summariser
from rlm_dist.root_worker.own_process import OwnProcesses
from rlm_dist.root_worker.repl import JobRepl
from rlm_dist.root_worker.room import Room
from rlm_dist.root_worker.root_calls import RootCalls
from rlm_dist.root_worker.run_counts import RunCounts
from rlm_dist.root_worker.samples import AT_ONCE, JUDGE, Samples
from rlm_dist.sandbox.fork_server_start import start_at
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import find
from rlm_dist.sandbox.probe import choose
from rlm_dist.schema import Costs, ErrorInfo, JobRecord, JobSpec, JobState, Outcome, Role
from rlm_dist.schema.events import Emit, Event, JobEnded, JobStarted, Marked
from rlm_dist.schema.leases import LEASE_MS
from rlm_dist.settings import Settings
from rlm_dist.store.connection import clock_from
from rlm_dist.store.jobs import MUST_BE_ALONE, JobEnd, TakenJob
from rlm_dist.store.journals import Entries
from rlm_dist.store.trace import TraceSink
from rlm_dist.worker.call_ids import part_of
from rlm_dist.worker.failpoints import failpoint
from rlm_dist.worker.free_memory import give_back_free_memory
from rlm_dist.worker.heartbeats import PeriodicThread
from rlm_dist.worker.mcp_config import read_servers
from rlm_dist.worker.mcp_servers import McpServers
from rlm_dist.worker.metrics import Unmeasured
from rlm_dist.worker.metrics_port import SANDBOX
from rlm_dist.worker.process import Worker
from rlm_dist.worker.prompt_file import read_prompts
from rlm_dist.worker.tool_functions import load_functions

log = structlog.get_logger()

# A job that ends while calls are in flight, as after threads or at its time limit, waits for them so long.
# The costs of later ones are added when they end.
_LAST_CALLS_S = 5.0
_LAST_CALLS_POLL_S = 0.1
_FREE_MEMORY_S = 5.0
_BEFORE_START = 0  # what JobStore.take_up returns if it ended the job


class RootWorker(Worker):
    """A process that runs ``jobs`` root loops at once; once ``stopping()`` is true, it parks its jobs.

    If ``jobs`` is 0 it runs a single one and is no worker that others know of. ``run`` is called from several
    threads.
    """

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        *,
        jobs: int,
        stopping: Callable[[], bool],
        metrics: Unmeasured,
    ) -> None:
        super().__init__(app, settings, Role.ROOT, metrics=metrics, jobs=jobs)
        self._is_shared = jobs > 1
        self._stopping = stopping
        self._urls = [
            {shown_url(endpoint.url.rstrip("/")) for endpoint in endpoints}
            for endpoints in self.endpoints.values()
        ]
        self._prompt_texts = read_prompts(settings.prompts)
        self._windows = ModelWindows(settings.windows, self._published_window)
        self._functions = load_functions(settings.tools)
        self._mcp_servers = McpServers(read_servers(settings.mcp_servers), settings.tool_timeout_s)
        self._repls = start_at(_level(settings), find(settings.sandbox_packages))
        try:
            self._repls.prepare()
        except SandboxError as error:  # the first job tries again, and fails if it must
            log.warning("fork_server_not_started", error=str(error))
        self._own_processes = OwnProcesses(stopping, metrics)
        self._leases = LeaseKeeper(self.store.jobs, stopping=stopping, waits=self._endpoint_away)
        self._memory = PeriodicThread(give_back_free_memory, period_s=_FREE_MEMORY_S, name="memory")

    def _published_window(self, model: str) -> int | None:
        """The smallest window that the endpoints of the root model have by the published data."""
        endpoints = self.endpoints[Role.ROOT]
        windows = [published_window(endpoint.named(model), endpoint.url) for endpoint in endpoints]
        return min((window for window in windows if window), default=None)

    def _window(self, model: str, fan_out: FanOut) -> RootWindow:
        named = partial(self.accounts.resolved, Role.ROOT, model)
        return RootWindow(
            tokens=lambda: self._windows.tokens(named()),
            learned=lambda tokens: self._windows.learn(named(), tokens),
            summarise=summariser(fan_out),
        )

    def close(self) -> None:
        """Close the REPLs and MCP servers, and all that ``Worker`` closes."""
        self._memory.close()
        self._leases.close()
        self._repls.close()
        self._mcp_servers.close()
        super().close()

    def run(self, job_id: str, task_id: str) -> Outcome | None:
        """Run this job to its end, unless it is final, cancelled or leased by another worker.

        Returns the job's outcome, whoever brought it about, or None if it has not ended. ``task_id`` is that
        of the Celery task.
        """
        bind_contextvars(job=job_id)
        try:
            return self._run(job_id, task_id)
        finally:
            clear_contextvars()

    def _run(self, job_id: str, task_id: str) -> Outcome | None:
        taken = self._take_up(job_id)
        if taken == MUST_BE_ALONE:
            self._own_processes.run(job_id, task_id)
            return self._stored_outcome(job_id)
        if not isinstance(taken, TakenJob):
            log.debug("job_not_started")
            return self._stored_outcome(job_id, ended_in=taken)
        failpoint("root.started", job_id)
        record = taken.record
        log_start(record)
        emit = TraceSink(self.store.journals, job_id, self.payloads, now_ms=clock_from(taken.now_ms))
        run = _Run(taken, task_id, emit, RunCounts(), JobSpans(self.spans, record))
        journal = self._journal(run)
        self.metrics.job_started(recovered=record.recovered)
        try:
            ran_ms = record.run_ms(taken.now_ms)
            with JobLease(record, self._leases, ran_ms=ran_ms, store_trace=emit.flush) as lease:
                finished = self._finish(run, self._outcome(run, lease, journal), journal)
                if finished is not None:
                    end, outcome = finished
                    run.spans.end(outcome)
                    log_end(record.model_copy(update=end._asdict()), outcome)
                    return outcome
        except Parked as parked:
            self._park(run, parked, journal)
        except Superseded:
            log.warning("job_superseded", epoch=record.epoch)
            return self._stored_outcome(job_id, ended_in=record.epoch)
        except Unreachable as error:
            # Nothing is lost: once the lease has lapsed, the first worker to reach Redis takes the job up.
            log.error("job_left", epoch=record.epoch, error=str(error))
            return None
        return self._stored_outcome(job_id)

    def _take_up(self, job_id: str) -> TakenJob | int | None:
        """As ``JobStore.take_up``; None if this process stops."""
        if self._stopping():
            return None
        return self.store.jobs.take_up(
            job_id,
            self.owner,
            LEASE_MS,
            self._repls.level.isolation,
            self.settings.max_job_bytes,
            shared=self._is_shared,
        )

    def _journal(self, run: "_Run") -> JournalWriter:
        spec = run.record.spec
        return JournalWriter(
            self.store.journals, self.payloads, job_id=spec.id, epoch=run.record.epoch, counts=run.counts,
            at_once=spec.session is not None,  # its later queries need it whole
        )  # fmt: skip

    def _stored_outcome(self, job_id: str, ended_in: int | None = None) -> Outcome | None:
        """The outcome of the job, if it has one; its end is logged if its last epoch is ``ended_in``."""
        with suppress(NotFound):  # its retention may be over
            record = self.store.jobs.get(job_id)
            if record.outcome is not None and ended_in in (record.epoch, _BEFORE_START):
                log_end(record, record.outcome)
            return record.outcome
        return None

    def _outcome(self, run: "_Run", lease: JobLease, journal: JournalWriter) -> Outcome:
        spec = run.record.spec
        session = spec.session
        contexts = (spec.context, *(file.context for file in (session.added if session else ())))
        try:
            # The context may be stored in Redis, which may be away.
            with ExitStack() as held:
                path = self.store.connection.patiently(
                    lambda: held.enter_context(self.contexts.hold(*contexts))
                )
                return self._run_loops(run, lease, journal, path)
        except (Parked, Superseded):
            raise
        except RLMError as error:
            if isinstance(error, Unreachable) and error.service == "Redis":
                raise
            return _failed_outcome(error)
        except Exception as error:
            log.exception("job_crashed")
            return _failed_outcome(RLMError(f"internal error: {type(error).__name__}"))

    def _finish(self, run: "_Run", outcome: Outcome, journal: JournalWriter) -> tuple[JobEnd, Outcome] | None:
        """Store the outcome, or that the job was cancelled meanwhile, and return what was stored.

        Returns None if the job had ended already, or another worker holds it.
        """
        failpoint("root.finishing", run.record.spec.id)
        with journal.sending() as entries:
            try:
                end = self._end_after_calls(run, outcome, entries)
            except Cancelled as error:
                outcome = _cancelled_outcome(outcome, error)
                end = self._end_after_calls(run, outcome, entries)
        failpoint("root.finished", run.record.spec.id)
        if isinstance(end, int):
            return None
        self.metrics.job_ended(outcome)
        self._count_duplicates(run.record, lambda: end.costs)
        return end, outcome

    def _end_after_calls(self, run: "_Run", outcome: Outcome, entries: Entries) -> JobEnd | int:
        """As ``JobStore.end``, after the last calls; those of a cancelled job have been given up."""
        end = self._end(run, outcome, entries, after_calls=outcome.state is not JobState.CANCELLED)
        if isinstance(end, int) and end > 0:
            self._await_calls(run.record)
            end = self._end(run, outcome, entries, after_calls=False)
        return end

    def _end(self, run: "_Run", outcome: Outcome, entries: Entries, *, after_calls: bool) -> JobEnd | int:
        """As ``JobStore.end``, with the last of the trace."""
        ended_so = outcome.model_dump(include={"state", "answer", "error", "iterations", "votes"})
        spec, replies = run.record.spec, list[JobEnd | int]()

        def end(events: Sequence[str]) -> bool:
            replies.append(
                self.store.jobs.end(
                    spec.id,
                    run.record.epoch,
                    outcome,
                    entries=entries,
                    events=events,
                    after_calls=after_calls,
                )
            )
            return isinstance(replies[0], JobEnd)

        run.emit.hand_over(end, last=JobEnded.model_validate(ended_so))
        return replies[0]

    def _await_calls(self, record: JobRecord) -> None:
        """Wait, not for long, until the job's calls in flight have ended, so that its costs are final."""
        deadline = time.monotonic() + _LAST_CALLS_S
        while self.store.calls.stop(record.spec.id, record.epoch) and time.monotonic() < deadline:
            time.sleep(_LAST_CALLS_POLL_S)

    def _park(self, run: "_Run", parked: Parked, journal: JournalWriter) -> None:
        record = run.record
        run.emit(Marked(turn=0, kind="parked", detail=parked.why))
        run.emit.flush()
        with suppress(Superseded, LimitExceeded):
            journal.flush()
        send = self.store.jobs.park(record.spec.id, record.epoch)
        failpoint("root.parked", record.spec.id)
        if send:
            send_root(self.app, record.spec, again=True)
        self._count_duplicates(record, lambda: self.store.jobs.costs(record.spec.id))
        log_park(record, parked)

    def _count_duplicates(self, record: JobRecord, costs: Callable[[], Costs]) -> None:
        """Count the calls paid twice since ``record`` was read: a job that is retried keeps its ledger."""
        before = record.costs.duplicate_paid_calls
        with suppress(RLMError):  # numbers are no reason to leave a job
            self.metrics.run_ended(lambda: costs().duplicate_paid_calls - before)

    def _run_loops(self, run: "_Run", lease: JobLease, journal: JournalWriter, context_path: Path) -> Outcome:
        """Run the job's root loop, or one for each of its samples; ``journal`` is that of the only loop."""
        record, emit, counts, task_id = run.record, run.emit, run.counts, run.task_id
        spec, worker = record.spec, self.owner.removeprefix(self.settings.broker_prefix)
        if self._repls.level is Level.OFF:
            log.warning("job_not_isolated")
        texts = self._prompt_texts if spec.prompts == "file" else None
        emit(
            JobStarted(
                job_id=spec.id, epoch=record.epoch, worker=worker,
                model=spec.model, sub_model=spec.sub_model, prompts=spec.prompts,
                isolation=self._repls.level.isolation, context=spec.context.info, samples=spec.samples,
                prompts_sha256=texts.sha256 if texts else None,
                session=spec.session.id if spec.session else None,
            )
        )  # fmt: skip
        emit.flush()  # if this process dies at once, the trace still shows that it had the job
        room = Room(partial(self.store.calls.keep, spec.id, record.epoch))

        def make(sample: int, spans: JobSpans, journal: JournalWriter) -> RootJob:
            seen = self._measured(emit, sample)
            calls = RootCalls(
                spec=spec, epoch=record.epoch, owner=self.owner, calls=self.store.calls,
                payloads=self.payloads, llm=self.llm, accounts=self.accounts, emit=seen,
                record=spans.root_call, sample=sample, room=room, sending=journal.sending,
            )  # fmt: skip
            part = part_of(sample)
            fan_out = self._fan_out(record, task_id, seen, part, min(AT_ONCE, spec.samples))
            children = self._children(record, lease, seen, part) if spec.has_children else None
            tools = self._job_tools(record, seen, part)
            return RootJob(
                taken=run.taken, lease=lease, store=self.store, payloads=self.payloads, calls=calls,
                fan_out=fan_out, repl=self._repl(spec, context_path, fan_out, children, tools, spans),
                review=make_review(spec, fan_out, context_path, self.settings.validators),
                window=self._window(spec.model, fan_out), texts=texts, children=children,
                accounts=self.accounts, emit=spans.watch(seen), sample=sample, counts=counts, journal=journal,
            )  # fmt: skip

        if spec.samples == 1:
            return make(0, run.spans, journal).run()
        return Samples(
            record=record, lease=lease, store=self.store, payloads=self.payloads,
            emit=self._measured(emit, 0),
            make=lambda sample: make(sample, run.spans.of_sample(sample), self._journal(run)),
            judge=lambda: self._fan_out(record, task_id, self._measured(emit, 0), JUDGE),
        ).run()  # fmt: skip

    def _measured(self, emit: TraceSink, sample: int) -> Emit:
        """Put the events of a sample into the metrics and the trace."""

        def measured(event: Event) -> None:
            self.metrics.event(event)
            emit(event.model_copy(update={"sample": sample}) if sample else event)

        return measured

    def _fan_out(self, record: JobRecord, task_id: str, emit: Emit, part: str = "", parts: int = 1) -> FanOut:
        spec, epoch = record.spec, record.epoch
        return FanOut(
            spec=spec, epoch=epoch, store=self.store, payloads=self.payloads, accounts=self.accounts,
            send=partial(self._send, SubTasks(spec, epoch=epoch, root_task_id=task_id)),
            queue_is_empty=self._queue_is_empty, emit=emit, part=part, parts=parts,
        )  # fmt: skip

    def _repl(
        self,
        spec: JobSpec,
        context_path: Path,
        fan_out: FanOut,
        children: ChildJobs | None,
        tools: JobTools,
        spans: JobSpans,
    ) -> JobRepl:
        limits = SandboxLimits(
            code_timeout_s=self.settings.code_timeout_s,
            outage_s=self.settings.outage_s,
            max_output_chars=spec.max_output_chars,
        )
        return JobRepl(
            fan_out,
            lambda query, query_ahead, typed_query: Sandbox(
                context_path=context_path, query=query, query_ahead=query_ahead, typed_query=typed_query,
                limits=limits, start=self._repls, children=children, tools=tools,
            ),
            self.metrics.repl_lost,
            spans.cell,
            children,
            tools,
        )  # fmt: skip

    def _children(self, record: JobRecord, lease: JobLease, emit: Emit, part: str) -> ChildJobs:
        return ChildJobs(
            spec=record.spec, epoch=record.epoch, store=self.store, blobs=self.blobs,
            resolve=self.accounts.resolve, send=self._send_children, left_s=lambda: lease.left_s, emit=emit,
            folder=self.contexts.folder, max_context_bytes=self.settings.max_context_bytes, part=part,
        )  # fmt: skip

    def _send_children(self, specs: Sequence[JobSpec]) -> None:
        """Put children on the queue of their depth; if that fails, the reaper does so later."""
        try:
            send_root(self.app, *specs)
        except (OperationalError, redis.RedisError) as error:
            log.warning("children_not_sent", jobs=len(specs), error=type(error).__name__)

    def _job_tools(self, record: JobRecord, emit: Emit, part: str) -> JobTools:
        spec = record.spec
        return JobTools(
            named_tools(spec.tools, self._functions, self._mcp_servers),
            job_id=spec.id, part=part, epoch=record.epoch, calls=self.store.tool_calls,
            payloads=self.payloads, timeout_s=self.settings.tool_timeout_s, emit=emit,
        )  # fmt: skip

    def _send(
        self,
        tasks: SubTasks,
        job_id: str,
        turn: int,
        chunks: Sequence[Sequence[str]],
        traceparent: str | None,
    ) -> None:
        """Put sub tasks on the queue; if that fails, they are sent again once their calls count as lost."""
        try:
            send_sub(self.app, tasks, turn, chunks, traceparent)
        except (OperationalError, redis.RedisError) as error:
            log.warning("sub_tasks_not_sent", job=job_id, error=type(error).__name__)

    def _endpoint_away(self) -> bool:
        """Whether all endpoints of a role are away, so that no job can get far."""
        away = self.store.limits.away_urls()
        return any(urls <= away for urls in self._urls)

    def _queue_is_empty(self) -> bool:
        """Whether no sub task is queued; False if the broker cannot be asked."""
        try:
            return queued(self.app, SUB_QUEUE) == [0]
        except (OperationalError, OSError, redis.RedisError):
            return False


class _Run(NamedTuple):
    """A run of a job by this worker, for the Celery task of this id."""

    taken: TakenJob
    task_id: str
    emit: TraceSink
    counts: RunCounts
    spans: JobSpans

    @property
    def record(self) -> JobRecord:
        """The job as it was taken up."""
        return self.taken.record


def sandbox_metric(settings: Settings) -> Metric:
    """The level of the sandbox, beside the one that was asked for."""
    return SANDBOX.sample(_level(settings).value, settings.sandbox, settings.sandbox_min)


def _level(settings: Settings) -> Level:
    return choose(settings.sandbox, settings.sandbox_min, settings.sandbox_packages)


def _cancelled_outcome(outcome: Outcome, error: Cancelled) -> Outcome:
    """The outcome of a job that was cancelled before its answer was stored, which is a partial one now."""
    return Outcome(
        state=JobState.CANCELLED,
        partial_answer=None if outcome.answer is None else bounded_partial(outcome.answer),
        error=ErrorInfo(type=type(error).__name__, message=str(error)),
        iterations=outcome.iterations,
        limits_reached=outcome.limits_reached,
    )


def _failed_outcome(error: RLMError) -> Outcome:
    return Outcome(state=JobState.FAILED, error=ErrorInfo(type=type(error).__name__, message=str(error)))
