"""The model client of one process: an event loop in a thread, a ``Connection`` per endpoint, the retry loop.

After a failed attempt, the next one goes to another endpoint of the role, if one takes calls. A call that
asks for the flex tier has more time. If that tier has no room, it goes to the default tier after a few
attempts, provided that its submitter says that the budget has room for the price.

Create it after the fork, in the process that uses it. ``submit`` may be called from any thread; cancelling
its future aborts the HTTP request.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import structlog
import uvloop

from rlm_dist.errors import DENIED, CallError, FailureKind, RLMError, Unreachable
from rlm_dist.llm.call_progress import CallProgress
from rlm_dist.llm.connection import Connection
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.failures import HTTPRefusal, TierUnavailable, shown_url
from rlm_dist.llm.limiter import LimiterRegistry
from rlm_dist.llm.permits import AttemptEnd
from rlm_dist.llm.retry import RetryPolicy
from rlm_dist.llm.single_flight import SingleFlightCache
from rlm_dist.llm.slots import Slots
from rlm_dist.llm.upstreams import EndpointPool, Upstream
from rlm_dist.llm.wire import Attempt
from rlm_dist.schema import DEFAULT_TIER, FLEX, CallRequest, CallResult, Role

T = TypeVar("T")
# Whether a call may go from the flex tier to the default one; it may block.
MayFallBack = Callable[[], bool]
FLEX_TIMEOUT_S = 900.0
_FLEX_ATTEMPTS = 3  # without room in the tier, until the default tier is asked
log = structlog.get_logger()

HINTS = (
    "What you can do: start a server there, or set RLM_API_URL to one that runs; "
    "or use the small local model: `rlm-dist model pull`, then add `--local`; "
    "or try rlm-dist without a model: `rlm-dist demo --simulated`."
)


class LLM:
    """Makes the model calls of one worker process, at most ``slots`` requests at once."""

    def __init__(
        self,
        endpoints: Mapping[Role, Sequence[Endpoint]],
        *,
        call_timeout_s: float,
        retry: RetryPolicy | None = None,
        limits: LimiterRegistry | None = None,
        cache: SingleFlightCache | None = None,
        slots: int | None = None,
        keep_thoughts: bool = False,
    ) -> None:
        """``keep_thoughts``: whether a sub model's thoughts stay in its answers."""
        # httpx2 logs a line for each request: in a worker's log, hundreds a second.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._endpoints = endpoints
        self._call_timeout_s = call_timeout_s
        self._retry = retry or RetryPolicy()
        self._limits = limits or LimiterRegistry()
        self._cache = cache
        self._keep_thoughts = keep_thoughts
        self._slots = Slots(slots)
        self._on_wire: dict[str, int] = {}
        self._connections: dict[tuple[object, ...], Connection] = {}
        self._pools: dict[Role, EndpointPool] = {}
        self._loop = _LoopThread("rlm-llm")

    def submit(
        self, request: CallRequest, job_id: str = "", may_fall_back: MayFallBack | None = None
    ) -> "Future[CallResult]":
        """Start a call; its result reports every failure. Cancelling the future aborts the request.

        When calls wait for a slot or for the shared limits, their jobs take turns. ``may_fall_back`` is
        asked, in another thread, if the call asks for the flex tier and that has no room; None forbids it.
        """
        return self._loop.submit(self._answer(request, job_id, may_fall_back))

    def start(
        self,
        request: CallRequest,
        job_id: str,
        may_fall_back: MayFallBack | None,
        when_over: "Callable[[asyncio.Task[CallResult]], None]",
    ) -> Callable[[], None]:
        """``submit`` with less memory held: returns what aborts the call, and ``when_over`` gets its end."""
        return self._loop.start(self._answer(request, job_id, may_fall_back), when_over)

    @property
    def away(self) -> bool:
        """Whether every endpoint that was called is away."""
        return self._limits.away

    def on_wire(self) -> dict[str, int]:
        """The number of requests in flight, by job; calls that wait are not counted."""
        return dict(self._on_wire)

    def drop(self, job_id: str) -> None:
        """End the waiting calls of a job as ``returned``; calls in flight go on."""
        error = CallError(FailureKind.RETURNED, "the job ended while the call waited")

        def drop() -> None:
            self._slots.drop(job_id, error)
            self._limits.drop(job_id, error)

        self._loop.call(drop)

    def drain(self) -> None:
        """Start no more requests: waiting calls end as ``returned``, calls in flight go on."""
        error = CallError(FailureKind.RETURNED, "the worker stops")

        def close() -> None:
            self._slots.close(error)
            self._limits.close(error)

        self._loop.call(close)

    def resolve_model(self, role: Role, name: str) -> str:
        """The name of the model that serves a call of ``role`` for ``name``. Raises CallError."""
        return self._loop.submit(self._resolve_model(role, name)).result()

    def models(self, role: Role) -> list[str]:
        """The models listed by the first endpoint of ``role`` that answers. Raises CallError."""
        return self._loop.submit(self._list_models(role)).result()

    def close(self) -> None:
        """Abort all calls and end the thread."""
        self._loop.close(self._close_connections)

    async def _resolve_model(self, role: Role, name: str) -> str:
        model = self._endpoints[role][0].named(name)
        return (await self._list_models(role))[0] if model == "auto" else model

    async def _list_models(self, role: Role) -> list[str]:
        """The models listed by the first endpoint of ``role`` that answers."""
        errors = []
        for upstream in self._pool(role).all:
            try:
                return await upstream.connection.models()
            except TimeoutError:
                errors.append(CallError(FailureKind.TIMEOUT, "the endpoint did not list its models in time"))
            except CallError as error:
                errors.append(error)
        raise errors[0] from None

    def _pool(self, role: Role) -> EndpointPool:
        if role not in self._pools:
            upstreams = [Upstream(endpoint, self._connection(endpoint)) for endpoint in self._endpoints[role]]
            self._pools[role] = EndpointPool(upstreams, self._limits.limiter)
        return self._pools[role]

    def _connection(self, endpoint: Endpoint) -> Connection:
        key = endpoint.key.get_secret_value() if endpoint.key else ""
        identity = endpoint.url, key, *sorted(endpoint.headers.items())
        if identity not in self._connections:
            self._connections[identity] = Connection(
                url=endpoint.url, key=key, headers=endpoint.headers,
                timeout_s=self._call_timeout_s, keep_thoughts=self._keep_thoughts,
            )  # fmt: skip
        return self._connections[identity]

    async def _answer(
        self, request: CallRequest, job_id: str, may_fall_back: MayFallBack | None
    ) -> CallResult:
        """Use the cache if the request asks for it; not at a temperature above 0, which wants new answers."""
        if self._cache is None or not request.cache or request.temperature:
            return await self._call(request, job_id, may_fall_back)
        try:
            model = await self._resolve_model(request.role, request.model)
        except CallError:  # the call itself will report this
            return await self._call(request, job_id, may_fall_back)
        url = self._endpoints[request.role][0].url
        make = partial(self._call, request, job_id, may_fall_back)
        return await self._cache.result(url, model, request, make)

    def _timeout_s(self, request: CallRequest) -> float:
        """The time for one attempt."""
        flex = request.asked_tier == FLEX
        return max(self._call_timeout_s, FLEX_TIMEOUT_S) if flex else self._call_timeout_s

    def _patience_s(self, request: CallRequest) -> float:
        """The time for all attempts."""
        return self._timeout_s(request) * self._retry.deadline_factor

    async def _call(self, request: CallRequest, job_id: str, may_fall_back: MayFallBack | None) -> CallResult:
        now = time.monotonic()
        progress = CallProgress(now, now + self._patience_s(request), job_id=job_id)
        pool = self._pool(request.role)
        while True:
            try:
                upstream, attempt = await self._next_attempt(pool, request, job_id, progress)
            except CallError as refusal:
                return progress.result(Attempt(failure=refusal))
            upstream.note(attempt.failure)
            progress.note(attempt, upstream)
            limiter = pool.limiter(upstream, request.model)
            if attempt.unheard and limiter.away:
                if limiter.outage is not None and not pool.elsewhere(upstream, request.model):
                    return progress.result(attempt._replace(failure=limiter.outage))
                progress.start_over(self._patience_s(request))
            if await self._leaves_flex(request, attempt, progress, may_fall_back):
                request = request.model_copy(update={"tier": DEFAULT_TIER})
                progress.start_over(self._patience_s(request))
                continue  # what that tier asked to wait for does not hold for this one
            delay_s = self._delay_s(upstream, pool, request.model, attempt, progress)
            if delay_s is None:
                return progress.result(attempt)
            if delay_s:
                progress.tried.clear()
                await asyncio.sleep(delay_s)

    async def _leaves_flex(
        self,
        request: CallRequest,
        attempt: Attempt,
        progress: CallProgress,
        may_fall_back: MayFallBack | None,
    ) -> bool:
        """Whether the call is to go on in the default tier, as the flex tier has had no room for it."""
        if (
            not _lacks_room(request, attempt)
            or progress.without_room < _FLEX_ATTEMPTS
            or may_fall_back is None
        ):
            return False
        try:
            return await asyncio.to_thread(may_fall_back)
        except RLMError as error:  # then it goes on asking the flex tier
            log.warning("fallback_not_reserved", error=type(error).__name__)
            return False

    async def _next_attempt(
        self, pool: EndpointPool, request: CallRequest, job_id: str, progress: CallProgress
    ) -> tuple[Upstream, Attempt]:
        """Wait for a slot and make one attempt; return its endpoint too. CallError if none can be made."""
        with progress.waiting():
            await self._slots.acquire(job_id)
        try:
            while True:
                upstream = pool.pick(request.model, progress.tried)
                try:
                    return upstream, await self._attempt_at(upstream, pool, request, job_id, progress)
                except CallError as refusal:
                    if refusal.kind is not FailureKind.RATE or not pool.elsewhere(upstream, request.model):
                        raise
        finally:
            self._slots.release()

    async def _attempt_at(
        self,
        upstream: Upstream,
        pool: EndpointPool,
        request: CallRequest,
        job_id: str,
        progress: CallProgress,
    ) -> Attempt:
        """Make one attempt at this endpoint, once its limiter permits it."""
        limiter = pool.limiter(upstream, request.model)
        has_alternative = pool.elsewhere(upstream, request.model)
        with progress.waiting():
            patience_s = 0.0 if has_alternative else progress.deadline - time.monotonic()
            permit = await limiter.acquire(job_id, request.expected.total, patience_s)
        attempt = Attempt()
        progress.begin()
        self._on_wire[job_id] = self._on_wire.get(job_id, 0) + 1
        try:
            attempt = await self._timed_attempt(upstream, request, progress.deadline)
        finally:
            self._on_wire[job_id] -= 1
            if not self._on_wire[job_id]:
                del self._on_wire[job_id]
            limiter.release(permit, _end_of(request, attempt), **_release_details(attempt))
        return attempt

    async def _timed_attempt(self, upstream: Upstream, request: CallRequest, deadline: float) -> Attempt:
        """Make one attempt under a total deadline: a limit per read would let a dripping server go on."""
        timeout_s = min(self._timeout_s(request), deadline - time.monotonic())
        connection = upstream.connection
        try:
            async with asyncio.timeout(timeout_s):
                attempt = await connection.attempt(request, upstream.endpoint.named(request.model))
        except TimeoutError:
            message = f"no complete answer from {connection.shown_url} within {timeout_s:.3g} s"
            failure = CallError(FailureKind.TIMEOUT, message)
            return Attempt(failure=failure, unheard=not await connection.answers())
        return (
            attempt
            if len(self._endpoints[request.role]) == 1
            else _with_endpoint(attempt, connection.shown_url)
        )

    def _delay_s(
        self, upstream: Upstream, pool: EndpointPool, model: str, attempt: Attempt, progress: CallProgress
    ) -> float | None:
        """Seconds to wait before the next attempt, or None if there is to be none."""
        failure, now = attempt.failure, time.monotonic()
        if failure is None:
            return None
        has_untried = any(candidate not in progress.tried for candidate in pool.all)
        moves = has_untried and pool.elsewhere(upstream, model)
        if failure.kind in DENIED:
            delay_s = None if pool.all_deny() else 0.0
        else:
            delay_s = self._retry.delay_s(failure, progress.counted)
            delay_s = 0.0 if moves and delay_s is not None else delay_s
            blocked_until = 0.0 if moves else pool.limiter(upstream, model).blocked_until
            if delay_s is None or max(now + delay_s, blocked_until) >= progress.deadline:
                return None
        if delay_s is not None:
            log.debug(
                "model_call_retried", job=progress.job_id, endpoint=upstream.connection.shown_url,
                kind=failure.kind.value,
                attempts=len(progress.failures), delay_s=round(delay_s, 3), told_s=failure.retry_after_s,
            )  # fmt: skip
        return delay_s

    async def _close_connections(self) -> None:
        await self._limits.give_back()
        if self._cache is not None:
            self._cache.close()
        for connection in self._connections.values():
            await connection.close()


class _LoopThread:
    """An event loop in its own thread."""

    def __init__(self, name: str) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._lock = threading.Lock()
        self._closed = False
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run ``work`` in the loop; callable from any thread."""
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError("closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def start(
        self, work: Coroutine[Any, Any, T], when_over: "Callable[[asyncio.Task[T]], None]"
    ) -> Callable[[], None]:
        """Run ``work`` in the loop, which calls ``when_over`` at its end; returns what cancels it."""
        begun = _Begun(self, work, when_over)
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError("closed")
            self._loop.call_soon_threadsafe(begun.begin)
        return begun.cancel

    def call(self, step: Callable[[], None]) -> None:
        """Run ``step`` in the loop, soon; do nothing if the loop is closed."""
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(step)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel all tasks, await ``last()``, and end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._wind_up(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _wind_up(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await last()


class _Begun(Generic[T]):
    """Work that was handed to the loop, and that any thread may cancel."""

    __slots__ = ("_loop", "_task", "_when_over", "_work")

    def __init__(
        self,
        loop: _LoopThread,
        work: Coroutine[Any, Any, T],
        when_over: "Callable[[asyncio.Task[T]], None]",
    ) -> None:
        self._loop = loop
        self._work: Coroutine[Any, Any, T] | None = work
        self._when_over = when_over
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Called in the loop."""
        assert self._work is not None
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._work = None
        self._task.add_done_callback(self._when_over)

    def cancel(self) -> None:
        """Called in any thread."""
        self._loop.call(self._cancel)

    def _cancel(self) -> None:  # after ``begin``, as the loop runs them in turn
        if self._task is not None:
            self._task.cancel()


def check_endpoint(endpoint: Endpoint, timeout_s: float = 10.0) -> list[str]:
    """The models that ``endpoint`` lists.

    Raises:
        Unreachable: nothing answers there as a model endpoint does; the text says what the user can do.
        CallError: it answers but refuses the request (a wrong key, a wrong address).
    """
    llm = LLM({Role.ROOT: [endpoint]}, call_timeout_s=timeout_s)
    try:
        return llm.models(Role.ROOT)
    except CallError as error:
        if _lists_no_models(endpoint, error):
            return [endpoint.model]
        if error.kind in (FailureKind.TRANSIENT, FailureKind.TIMEOUT):
            raise Unreachable("the model endpoint", shown_url(endpoint.url), error.message, HINTS) from None
        raise
    finally:
        llm.close()


def _lists_no_models(endpoint: Endpoint, error: CallError) -> bool:
    """Whether ``endpoint`` is one deployment, as Azure has them (with a query), and its model is named."""
    is_deployment = endpoint.model != "auto" and bool(urlsplit(endpoint.url).query)
    return is_deployment and isinstance(error, HTTPRefusal) and error.maybe_no_route


def check_endpoints(endpoints: Sequence[Endpoint]) -> None:
    """Check that one of a role's endpoints answers; if none does, raise the first one's error."""
    errors = []
    for endpoint in endpoints:
        try:
            check_endpoint(endpoint)
            return
        except (Unreachable, CallError) as error:
            errors.append(error)
    raise errors[0]


def _lacks_room(request: CallRequest, attempt: Attempt) -> bool:
    """Whether the flex tier had no room, which says nothing about how many calls the endpoint takes."""
    return request.asked_tier == FLEX and isinstance(attempt.failure, TierUnavailable)


def _end_of(request: CallRequest, attempt: Attempt) -> AttemptEnd:
    """How an attempt ended, as far as the limits are concerned."""
    if attempt.unheard:
        return AttemptEnd.UNHEARD
    refused = attempt.failure is not None and attempt.failure.kind is FailureKind.RATE
    if refused and not _lacks_room(request, attempt):
        return AttemptEnd.REFUSED
    if attempt.failure is not None:
        return AttemptEnd.FAILED
    return AttemptEnd.ANSWERED if attempt.completion else AttemptEnd.ABORTED


def _release_details(attempt: Attempt) -> dict[str, Any]:
    """What else the limiter has to know about an attempt."""
    paid, failure = attempt.completion or attempt.charge, attempt.failure
    return {
        "tokens": paid.usage.total if paid else None,
        "retry_after_s": (failure.retry_after_s if failure else None) or 0.0,
        "blocked_s": attempt.blocked_s or 0.0,
    }


def _with_endpoint(attempt: Attempt, url: str) -> Attempt:
    """``attempt`` with the endpoint's address noted in its completion and its charge."""
    completion, charge = attempt.completion, attempt.charge
    return attempt._replace(
        completion=completion.model_copy(update={"endpoint": url}) if completion else None,
        charge=charge.model_copy(update={"endpoint": url}) if charge else None,
    )
