"""Limits the calls to each scope, an endpoint and model; all workers share the limits.

``Permits`` decides which call may start, ``EndpointLimiter`` lets calls wait for a permit and reports to the
store, and ``LimiterRegistry`` holds the limiters of one process. The jobs of waiting calls take turns.

Everything here runs in the event loop of its ``LLM``; only the reports are sent from a thread.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Protocol

import structlog

from rlm_dist.errors import CallError, RLMError
from rlm_dist.llm.permits import AttemptEnd, Permit, Permits, Waiter
from rlm_dist.schema.leases import LEASE_MS
from rlm_dist.schema.limits import Ceilings, Report, Scope, Share

log = structlog.get_logger()

_RESEND_S = 1.0
MAX_IDLE = 1000  # model names come from jobs

Send = Callable[[Report], Share]


class ShareReports(Protocol):
    """Submits a process's report on a scope, and returns its share of the limits that all workers have."""

    def __call__(
        self, scope: Scope, holder: str, report: Report, ceilings: Ceilings, lease_ms: int, /
    ) -> Share: ...


class EndpointLimiter:
    """The limiter of this process for one scope; without ``send`` it shares nothing with other processes."""

    def __init__(self, permits: Permits, send: Send | None, threads: ThreadPoolExecutor) -> None:
        self._permits = permits
        self._send = send
        self._threads = threads
        self._wake = asyncio.Event()
        self._due = -math.inf  # when the reporting task sends its next report; -inf without a task
        self._reports: asyncio.Task[None] | None = None
        self._closed: CallError | None = None

    @property
    def crowded(self) -> bool:
        """Whether calls of this process wait for a permit."""
        return self._permits.crowded

    @property
    def quiet(self) -> bool:
        """Whether the share is so old that the next call has to wait for a report."""
        return self._permits.quiet

    @property
    def idle(self) -> bool:
        """Whether no call is in flight or waits, and the share is given back."""
        return not self._permits.in_flight and not self._permits.crowded and self._due == -math.inf

    @property
    def away(self) -> bool:
        """Whether the endpoint is away: it answers nothing."""
        return self._permits.away

    @property
    def outage(self) -> CallError | None:
        """The error for a call whose attempts failed, once the endpoint has been away for too long."""
        return self._permits.outage

    @property
    def blocked_until(self) -> float:
        """The time until which the endpoint wants no calls at all."""
        return self._permits.blocked_until

    @property
    def closed_until(self) -> float:
        """The time until which a call should go to another endpoint if it can."""
        return self._permits.closed_until

    async def acquire(
        self, job_id: str, tokens: int, patience_s: float, *, since: float | None = None
    ) -> Permit:
        """Wait until a call may be made; call ``release`` when it has ended.

        ``patience_s`` is 0 if another endpoint would take the call now. ``since`` is when the call began to
        wait, if that was earlier.

        Raises:
            CallError: if the endpoint wants no calls for longer than ``patience_s``, or has been away for too
                long; or the error passed to ``drop`` or ``close``.
        """
        if self._closed is not None:
            raise self._closed
        permit = self._permits.acquire(tokens)
        if permit is not None:
            self._schedule_report()
            return permit
        grant: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        now = time.monotonic()
        waiter = Waiter(
            job_id=job_id, tokens=tokens, since=now if since is None else since, deadline=now + patience_s,
            elsewhere=patience_s <= 0, start=self._granter(grant), fail=_failer(grant),
        )  # fmt: skip
        self._permits.wait(waiter)
        self._schedule_report()
        try:
            return await grant
        except asyncio.CancelledError:
            if grant.done() and not grant.cancelled() and grant.exception() is None:
                self.release(grant.result(), AttemptEnd.ABORTED)  # granted just before the cancellation
            raise
        finally:
            self._permits.discard(waiter)

    def release(
        self,
        permit: Permit,
        ended: AttemptEnd = AttemptEnd.ANSWERED,
        *,
        tokens: int | None = None,
        retry_after_s: float = 0.0,
        blocked_s: float = 0.0,
    ) -> None:
        """Release a permit; see ``Permits.release``."""
        self._permits.release(permit, ended, tokens=tokens, retry_after_s=retry_after_s, blocked_s=blocked_s)
        self._schedule_report()

    def drop(self, job_id: str, error: CallError) -> None:
        """Make the waiting calls of a job raise ``error``."""
        self._permits.fail(error, job_id)

    def close(self, error: CallError) -> None:
        """Make every waiting and every later call raise ``error``; calls in flight go on."""
        self._closed = error
        self._permits.fail(error)

    async def give_back(self) -> None:
        """Stop reporting, and leave the share to the other processes."""
        if self._reports is not None:
            self._reports.cancel()
            await asyncio.gather(self._reports, return_exceptions=True)
        if self._send is not None and self._permits.has_reported:
            with suppress(RLMError):  # then the share ends with its lease
                await self._in_thread(self._send, self._permits.give_up())

    def _granter(self, grant: "asyncio.Future[Permit]") -> Callable[[Permit], None]:
        def give(permit: Permit) -> None:
            if grant.done():  # the call was cancelled at the same moment
                self._permits.release(permit, AttemptEnd.ABORTED)
            else:
                grant.set_result(permit)

        return give

    def _schedule_report(self) -> None:
        """Start or wake the reporting task if a report is now due, or is due earlier than before."""
        if self._send is None or (due := self._permits.report_due()) == math.inf:
            return
        if self._due == -math.inf:
            self._due = due
            self._reports = asyncio.get_running_loop().create_task(self._report_on(self._send))
        elif due < self._due:
            self._wake.set()

    async def _report_on(self, send: Send) -> None:
        """Send each report when it is due, until no further one is due and the share is given back."""
        try:
            while (due := self._permits.report_due()) < math.inf:
                self._due, delay_s = due, due - time.monotonic()
                if delay_s > 0:
                    self._wake.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(delay_s):
                            await self._wake.wait()
                    continue
                self._due = math.inf  # no other report is due while this one is being sent
                await self._report(send)
        finally:
            self._due = -math.inf

    async def _report(self, send: Send) -> None:
        report = self._permits.report()
        while True:
            began = time.monotonic()
            try:
                share = await self._in_thread(send, report)
            except RLMError as error:
                log.warning("limits_not_shared", error=type(error).__name__)
                await asyncio.sleep(_RESEND_S)
            except Exception:  # whatever the error, calls must not wait forever for a share
                log.exception("limits_not_shared")
                await asyncio.sleep(_RESEND_S)
            else:
                self._permits.take(share, began)
                return

    async def _in_thread(self, send: Send, report: Report) -> Share:
        return await asyncio.get_running_loop().run_in_executor(self._threads, send, report)


class LimiterRegistry:
    """The limiters of one process; without ``share`` it shares no limits with other processes.

    Idle limiters are dropped when there are many: a new one learns again what the endpoint takes.
    ``gives_back`` and ``outage_s`` are those of ``Permits``.
    """

    def __init__(
        self,
        share: ShareReports | None = None,
        *,
        owner: str = "",
        ceilings: Ceilings | None = None,
        lease_ms: int = LEASE_MS,
        gives_back: bool = False,
        outage_s: float = math.inf,
    ) -> None:
        self._share = share
        self._owner = owner
        self._ceilings = ceilings or Ceilings()
        self._lease_ms = lease_ms
        self._gives_back = gives_back
        self._outage_s = outage_s
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="rlm-limits")
        self._limiters: dict[Scope, EndpointLimiter] = {}
        self._closed: CallError | None = None

    def limiter(self, url: str, model: str) -> EndpointLimiter:
        """The limiter for a model at an endpoint; made on first use."""
        scope = Scope(url, model)
        if scope not in self._limiters:
            self._drop_idle()
            permits = Permits(
                time.monotonic,
                lease_s=self._lease_ms / 1000,
                shared=self._share is not None,
                gives_back=self._gives_back,
                outage_s=self._outage_s,
            )
            self._limiters[scope] = EndpointLimiter(permits, self._sender(scope), self._threads)
            if self._closed is not None:
                self._limiters[scope].close(self._closed)
        return self._limiters[scope]

    @property
    def away(self) -> bool:
        """Whether all endpoints that were called are away; False if none was called."""
        return bool(self._limiters) and all(limiter.away for limiter in self._limiters.values())

    def drop(self, job_id: str, error: CallError) -> None:
        """Make the waiting calls of a job raise ``error``."""
        for limiter in self._limiters.values():
            limiter.drop(job_id, error)

    def close(self, error: CallError) -> None:
        """Make every waiting and every later call raise ``error``; calls in flight go on."""
        self._closed = error
        for limiter in self._limiters.values():
            limiter.close(error)

    async def give_back(self) -> None:
        """Leave all shares to the other processes; no call may follow."""
        for limiter in self._limiters.values():
            await limiter.give_back()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _drop_idle(self) -> None:
        if len(self._limiters) >= MAX_IDLE:
            self._limiters = {scope: limiter for scope, limiter in self._limiters.items() if not limiter.idle}

    def _sender(self, scope: Scope) -> Send | None:
        share = self._share
        if share is None:
            return None
        # Its own for each limiter: a later one of the same scope counts its reports from 1 again.
        holder = f"{self._owner}:{uuid.uuid4().hex[:8]}"

        def send(report: Report) -> Share:
            reply = share(scope, holder, report, self._ceilings, self._lease_ms)
            _log_changes(scope, reply)
            return reply

        return send


def _log_changes(scope: Scope, share: Share) -> None:
    """Log what this process is the first to learn; the other processes of all workers log nothing."""
    if share.turn:
        level = logging.WARNING if share.turn == "away" else logging.INFO
        log.log(level, f"endpoint_{share.turn}", endpoint=scope.url, model=scope.model)
    if share.ceilings is not None:
        log.info("ceilings_changed", endpoint=scope.url, model=scope.model, **asdict(share.ceilings))


def _failer(grant: "asyncio.Future[Permit]") -> Callable[[CallError], None]:
    def fail(error: CallError) -> None:
        if not grant.done():
            grant.set_exception(error)

    return fail
