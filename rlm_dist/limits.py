"""Who may call a model now: a gate before each endpoint and model, whose limits all workers share.

A gate has a share of the calls that may be in flight, leased from the store. Within it a call starts and ends
without a word to Redis. While calls start and end the gate reports every ``BEAT_S``, and sooner where a call
is refused, or where calls begin to wait. While those in flight just go on it is quiet, but for its lease, and
reports before the next one starts. A share that was not renewed ends with its lease, here as in the store:
while Redis is away, calls wait. Calls that wait start in the order of their jobs, which take turns.

Everything here runs in the one event loop of its ``LLM``; only the reports go through a thread.
"""

import asyncio
import hashlib
import math
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import structlog

from rlm_dist.errors import CallError, FailureKind, RLMError
from rlm_dist.leases import LEASE_MS
from rlm_dist.store import Ceilings, Report, Share, Store
from rlm_dist.turns import Turns

log = structlog.get_logger()

BEAT_S = 0.25
# Reports are at least so far apart: what happens in between goes together.
_GAP_S = 0.01
_AWAY_S = 1.0
_MOST_TOLD = 200
_ANY = 1_000_000

Send = Callable[[Report], Share]


class Permit(NamedTuple):
    """Leave to make one call; ``tokens`` is the estimate that it was given for."""

    epoch: int
    tokens: int


@dataclass(eq=False)
class _Waiter:
    """A call that waits; it gives up where the endpoint wants no calls until after ``deadline``."""

    tokens: int
    deadline: float
    permit: "asyncio.Future[Permit]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Gate:
    """The way of this process to one endpoint and model; without ``send`` it shares nothing with others.

    It is ``quiet`` while its share is older than a beat: no call starts then before the next report.
    """

    def __init__(self, send: Send | None, threads: ThreadPoolExecutor, *, rates: bool, lease_ms: int) -> None:
        self.blocked_until = 0.0
        self.quiet = False
        self._send = send
        self._threads = threads
        self._lease_s = lease_ms / 1000
        self._room = 0 if send else _ANY
        self._until = 0.0 if send else math.inf
        self._epoch = 0
        self._starts: int | None = 0 if send and rates else None
        self._wait_s = 0.0
        self._in_flight = 0
        self._waiting: Turns[_Waiter] = Turns()
        self._wake = asyncio.Event()
        self._news = False
        self._reported_at = -math.inf
        self._beats: asyncio.Task[None] | None = None
        self._closed: CallError | None = None
        # What the next report tells.
        self._number = 0
        self._peak = 0
        self._ended = 0
        self._refused: int | None = None
        self._told_s = 0.0
        self._extra_tokens = 0

    @property
    def crowded(self) -> bool:
        """Whether calls of this process wait here."""
        return bool(self._waiting)

    async def enter(self, job_id: str, tokens: int, patience_s: float) -> Permit:
        """Wait until a call may be made; ``leave`` is to be called when it has ended.

        Raises:
            CallError: where the endpoint wants no calls for longer than ``patience_s``, or what ``drop`` or
                ``close`` was given.
        """
        if self._closed is not None:
            raise self._closed
        if not self._waiting and self._may_start():
            self._beat()
            return self._start(tokens)
        waiter = _Waiter(tokens, time.monotonic() + patience_s)
        self._waiting.add(job_id, waiter)
        self._peak = max(self._peak, self._in_flight + len(self._waiting))
        self._turn_away()
        self._beat()
        if len(self._waiting) == 1:
            self._wake.set()
        try:
            return await waiter.permit
        except asyncio.CancelledError:
            if waiter.permit.done() and not waiter.permit.cancelled() and waiter.permit.exception() is None:
                self.leave(waiter.permit.result())  # it came too late
            raise
        finally:
            self._waiting.discard(job_id, waiter)

    def leave(
        self, permit: Permit, *, tokens: int | None = None, refused: bool = False, blocked_s: float = 0.0
    ) -> None:
        """Give a permit back: what its call used, whether a 429 refused it, how long no calls are wanted."""
        self._in_flight -= 1
        self._happened()
        if tokens is not None:
            self._extra_tokens += tokens - permit.tokens
        if blocked_s:
            self._block(blocked_s)
            self._told_s = max(self._told_s, blocked_s)
            self._wake.set()
        if refused:
            self._refused = max(self._refused or 0, permit.epoch)
            self._shrink()
            self._wake.set()
        else:
            self._ended += 1
        self._let_in()

    def drop(self, job_id: str, error: CallError) -> None:
        """Let the calls of a job that wait raise ``error``."""
        self._fail(self._waiting.of(job_id), error)

    def close(self, error: CallError) -> None:
        """Let every call raise ``error`` that waits or comes; those in flight go on."""
        self._closed = error
        self._fail(self._waiting, error)

    async def give_back(self) -> None:
        """Report no more, and leave the share to the others."""
        if self._beats is not None:
            self._beats.cancel()
            await asyncio.gather(self._beats, return_exceptions=True)
        if self._send is not None and self._number:
            last = Report(number=self._number + 1, in_flight=0, wanted=0)
            with suppress(RLMError):  # it ends with its lease
                await asyncio.get_running_loop().run_in_executor(self._threads, self._send, last)

    def _may_start(self) -> bool:
        now = time.monotonic()
        return (
            self._in_flight < self._room
            and self._starts != 0
            and self.blocked_until <= now
            and now < self._until
            and not self.quiet
        )

    def _happened(self) -> None:
        """A call has started or ended, of which the next report tells."""
        self._news = True
        if self.quiet:
            self._wake.set()

    def _start(self, tokens: int) -> Permit:
        self._in_flight += 1
        self._happened()
        self._peak = max(self._peak, self._in_flight)
        if self._starts is not None:
            self._starts -= 1
        return Permit(self._epoch, tokens)

    def _let_in(self) -> None:
        while self._waiting and self._may_start():
            waiter = self._waiting.pop()
            if not waiter.permit.done():
                waiter.permit.set_result(self._start(waiter.tokens))

    def _shrink(self) -> None:
        """Start no call more than there are in flight now, until the next share has come."""
        if self._send is not None:
            self._room = min(self._room, self._in_flight)

    def _block(self, seconds: float) -> None:
        self.blocked_until = max(self.blocked_until, time.monotonic() + seconds)
        self._turn_away()

    def _turn_away(self) -> None:
        left_s = self.blocked_until - time.monotonic()
        error = CallError(
            FailureKind.RATE,
            f"the endpoint takes no calls for {left_s:.0f} s, past this call's deadline",
            left_s,
        )
        self._fail((each for each in self._waiting if each.deadline < self.blocked_until), error)

    def _fail(self, waiters: Iterable[_Waiter], error: CallError) -> None:
        for waiter in waiters:
            if not waiter.permit.done():
                waiter.permit.set_exception(error)

    def _beat(self) -> None:
        if self._beats is None or self._beats.done():
            self._beats = asyncio.get_running_loop().create_task(self._report_on())

    async def _report_on(self) -> None:
        """Report until there is nothing left to tell of, and the share is given back."""
        while True:
            self._wake.clear()
            wanted = await self._report()
            self._let_in()
            if not (wanted or self._waiting or self._in_flight):
                return
            # More have come meanwhile than the share had to spare: they need not wait for the next beat.
            if not (self._waiting and self._peak > 1.5 * wanted + 4):
                await self._rest()
            await asyncio.sleep(max(0.0, self._reported_at + _GAP_S - time.monotonic()))

    async def _rest(self) -> None:
        """Wait for a beat; where nothing has happened in it, until something does or the lease gets old."""
        if await self._woken(self._pause_s()) or self._news or self._waiting or not self._in_flight:
            return
        self.quiet = True
        await self._woken(self._lease_s / 4)

    async def _woken(self, seconds: float) -> bool:
        """Whether there is a reason to report before so many seconds are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._wake.wait()
        return False

    def _pause_s(self) -> float:
        blocked_s = self.blocked_until - time.monotonic()
        if self._waiting and blocked_s > 0:
            return min(BEAT_S, blocked_s)
        return min(BEAT_S, self._wait_s) if self._waiting and self._starts == 0 else BEAT_S

    async def _report(self) -> int:
        """Tell what happened and take the share that comes back; returns how many calls were wanted."""
        self.quiet = False  # not sooner: no call is to start on a share that is old
        wanted, self._peak = self._peak, self._in_flight + len(self._waiting)
        if self._send is None:
            return wanted
        # Nothing may start on the old share that the new one might not allow.
        self._shrink()
        counted = self._starts is not None
        self._starts = 0 if counted else None
        self._number += 1
        self._news = False
        report = Report(
            number=self._number,
            in_flight=self._in_flight,
            wanted=wanted,
            ended=self._ended,
            refused_epoch=self._refused,
            blocked_s=self._told_s,
            extra_tokens=self._extra_tokens,
            waiting=tuple(each.tokens for each in islice(self._waiting, _MOST_TOLD)) if counted else (),
        )
        self._ended, self._refused, self._told_s, self._extra_tokens = 0, None, 0.0, 0
        self._take(*await self._told(self._send, report))
        self._reported_at = time.monotonic()
        return wanted

    async def _told(self, send: Send, report: Report) -> tuple[Share, float]:
        """The share that the store answers with, once it can be reached, and when its lease began."""
        while True:
            began = time.monotonic()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, send, report), began
            except RLMError as error:
                log.warning("limits_not_shared", error=type(error).__name__)
            await asyncio.sleep(_AWAY_S)

    def _take(self, share: Share, began: float) -> None:
        self._room, self._epoch, self._until = share.in_flight, share.epoch, began + self._lease_s
        if self._starts is not None:
            self._starts, self._wait_s = share.starts or 0, share.wait_s
        if share.blocked_s:
            self._block(share.blocked_s)
        if self._refused is not None:
            self._shrink()


class Limits:
    """The gates of one process; without a store its limits are its own."""

    def __init__(
        self,
        store: Store | None = None,
        *,
        owner: str = "",
        ceilings: Ceilings | None = None,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._store = store
        self._holder = f"{owner}:{uuid.uuid4().hex[:8]}"
        self._ceilings = ceilings or Ceilings()
        self._lease_ms = lease_ms
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="rlm-limits")
        self._gates: dict[tuple[str, str], Gate] = {}
        self._closed: CallError | None = None

    def gate(self, url: str, model: str) -> Gate:
        """The gate before a model at an endpoint."""
        if (url, model) not in self._gates:
            self._gates[url, model] = Gate(
                self._sender(url, model), self._threads, rates=self._ceilings.rates, lease_ms=self._lease_ms
            )
            if self._closed is not None:
                self._gates[url, model].close(self._closed)
        return self._gates[url, model]

    def drop(self, job_id: str, error: CallError) -> None:
        """Let the calls of a job that wait raise ``error``."""
        for gate in self._gates.values():
            gate.drop(job_id, error)

    def close(self, error: CallError) -> None:
        """Let every call raise ``error`` that waits or comes; those in flight go on."""
        self._closed = error
        for gate in self._gates.values():
            gate.close(error)

    async def give_back(self) -> None:
        """Leave all shares to the others; no call may come after that."""
        for gate in self._gates.values():
            await gate.give_back()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _sender(self, url: str, model: str) -> Send | None:
        if self._store is None:
            return None
        place = hashlib.blake2b(f"{url}\n{model}".encode(), digest_size=8).hexdigest()
        share = self._store.share
        return lambda report: share(place, self._holder, report, self._ceilings, self._lease_ms)
