"""The calls of one process: an event loop in a thread, one ``Connection`` an endpoint, the retry loop.

Made after a fork, in the process that uses it. ``submit`` may be called from any thread; a cancelled future
aborts its HTTP request.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
import uvloop
from pydantic import SecretStr

from rlm_dist.cache import Cache
from rlm_dist.errors import CallError, FailureKind, Unreachable
from rlm_dist.limits import Gate, Limits
from rlm_dist.llm.connection import Connection
from rlm_dist.llm.failures import shown_url
from rlm_dist.llm.replies import Attempt
from rlm_dist.llm.retry import RetryPolicy
from rlm_dist.models import CallFailure, CallRequest, CallResult, Charge, Role

T = TypeVar("T")
log = structlog.get_logger()

WAYS_ON = (
    "Ways on: start a server there, or set RLM_API_URL to one that runs; "
    "or use the small local model: `rlm-dist model pull`, then add `--local`; "
    "or see it work with no model at all: `rlm-dist demo --simulated`."
)


@dataclass(frozen=True)
class Endpoint:
    """Where a role's model is served; ``model`` is a name, or ``auto`` for the first that is listed."""

    url: str
    key: SecretStr | None = None
    model: str = "auto"


class LLM:
    """The model calls of one worker process."""

    def __init__(
        self,
        *,
        root: Endpoint,
        sub: Endpoint,
        call_timeout_s: float,
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
        cache: Cache | None = None,
    ) -> None:
        # It writes a line for each request, which in a worker's log are hundreds a second.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._endpoints = {Role.ROOT: root, Role.SUB: sub}
        self._call_timeout_s = call_timeout_s
        self._retry = retry or RetryPolicy()
        self._limits = limits or Limits()
        self._cache = cache
        self._connections: dict[tuple[str, str], Connection] = {}
        self._loop = _LoopThread("rlm-llm")

    def submit(self, request: CallRequest, job_id: str = "") -> "Future[CallResult]":
        """Start a call; its result tells of every failure. ``cancel()`` of the future aborts the request.

        Where calls wait for the shared limits, the jobs take turns.
        """
        return self._loop.submit(self._answer(request, job_id))

    def drop(self, job_id: str) -> None:
        """End the calls of a job that wait for the shared limits as ``returned``; those under way go on."""
        over = CallError(FailureKind.RETURNED, "the job ended while the call waited")
        self._loop.call(lambda: self._limits.drop(job_id, over))

    def drain(self) -> None:
        """Start no request more: calls that wait end as ``returned``, those under way go on."""
        stops = CallError(FailureKind.RETURNED, "the worker stops")
        self._loop.call(lambda: self._limits.close(stops))

    def resolve_model(self, role: Role, name: str) -> str:
        """The name of the model that a call of ``role`` for ``name`` goes to. Raises CallError."""
        return self._loop.submit(self._resolved(role, name)).result()

    def models(self, role: Role) -> list[str]:
        """The models that the endpoint of ``role`` lists. Raises CallError."""
        return self._loop.submit(self._listed(role)).result()

    def close(self) -> None:
        """Abort what is under way and end the thread."""
        self._loop.close(self._close_connections)

    async def _resolved(self, role: Role, name: str) -> str:
        model = self._wanted(role, name)
        return (await self._listed(role))[0] if model == "auto" else model

    async def _listed(self, role: Role) -> list[str]:
        try:
            return await self._connection(role).models()
        except TimeoutError:
            raise CallError(FailureKind.TIMEOUT, "the endpoint did not list its models in time") from None

    def _wanted(self, role: Role, name: str) -> str:
        return self._endpoints[role].model if name == "auto" else name

    def _connection(self, role: Role) -> Connection:
        endpoint = self._endpoints[role]
        key = endpoint.key.get_secret_value() if endpoint.key else ""
        if (endpoint.url, key) not in self._connections:
            self._connections[endpoint.url, key] = Connection(
                url=endpoint.url, key=key, timeout_s=self._call_timeout_s
            )
        return self._connections[endpoint.url, key]

    async def _answer(self, request: CallRequest, job_id: str) -> CallResult:
        """From the cache where the request asks for that; a temperature says that answers are to differ."""
        if self._cache is None or not request.cache or request.temperature:
            return await self._call(request, job_id)
        try:
            model = await self._resolved(request.role, request.model)
        except CallError:  # which the call will tell in its own way
            return await self._call(request, job_id)
        url = self._connection(request.role).url
        return await self._cache.result(url, model, request, lambda: self._call(request, job_id))

    async def _call(self, request: CallRequest, job_id: str) -> CallResult:
        started = time.monotonic()
        connection = self._connection(request.role)
        model = self._wanted(request.role, request.model)
        gate = self._limits.gate(connection.url, model)
        deadline = time.monotonic() + self._call_timeout_s * self._retry.deadline_factor
        wasted: list[Charge] = []
        failed: list[FailureKind] = []
        while True:
            began = time.monotonic()
            try:
                permit = await gate.enter(job_id, request.expected.total, deadline - began)
            except CallError as refusal:
                return _result(Attempt(failure=refusal), wasted, failed, time.monotonic() - started)
            deadline += time.monotonic() - began  # time in a queue is not the call's own
            attempt = Attempt()
            try:
                attempt = await self._timed(connection, request, model, deadline)
            finally:
                gate.leave(permit, **_told(attempt))
            if attempt.charge is not None:
                wasted.append(attempt.charge)
            if attempt.failure is not None:
                failed.append(attempt.failure.kind)
            delay_s = self._delay_s(connection, gate, attempt, len(failed), deadline)
            if delay_s is None:
                return _result(attempt, wasted, failed, time.monotonic() - started)
            await asyncio.sleep(delay_s)

    async def _timed(
        self, connection: Connection, request: CallRequest, model: str, deadline: float
    ) -> Attempt:
        """One attempt under a total deadline: a limit on each read alone lets a dripping server go on."""
        timeout_s = min(self._call_timeout_s, deadline - time.monotonic())
        try:
            async with asyncio.timeout(timeout_s):
                return await connection.attempt(request, model)
        except TimeoutError:
            message = f"no whole answer from {connection.shown} within {timeout_s:.3g} s"
            return Attempt(failure=CallError(FailureKind.TIMEOUT, message))

    def _delay_s(
        self, connection: Connection, gate: Gate, attempt: Attempt, attempts: int, deadline: float
    ) -> float | None:
        """How long to wait before the next attempt, or None where there is to be none."""
        failure, now = attempt.failure, time.monotonic()
        if failure is None:
            return None
        delay_s = self._retry.delay_s(failure, attempts)
        if delay_s is None or max(now + delay_s, gate.blocked_until) >= deadline:
            return None
        log.info(
            "model_call_retried", endpoint=connection.shown, kind=failure.kind.value, attempts=attempts,
            delay_s=round(delay_s, 3), told_s=failure.retry_after_s,
        )  # fmt: skip
        return delay_s

    async def _close_connections(self) -> None:
        await self._limits.give_back()
        if self._cache is not None:
            self._cache.close()
        for connection in self._connections.values():
            await connection.close()


class _LoopThread:
    """An event loop in a thread of its own."""

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

    def call(self, step: Callable[[], None]) -> None:
        """Run ``step`` in the loop, soon; nothing happens where it is closed."""
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(step)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel what runs, await ``last()``, and end the thread."""
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


def check_endpoint(url: str, key: SecretStr | None, timeout_s: float = 10.0) -> list[str]:
    """The models that the endpoint at ``url`` lists.

    Raises:
        Unreachable: nothing answers there as a model endpoint does; the text names the ways on.
        CallError: it answers, but not to us (a wrong key, a wrong address).
    """
    llm = LLM(root=Endpoint(url, key), sub=Endpoint(url, key), call_timeout_s=timeout_s)
    try:
        return llm.models(Role.ROOT)
    except CallError as error:
        if error.kind in (FailureKind.TRANSIENT, FailureKind.TIMEOUT):
            raise Unreachable("the model endpoint", shown_url(url), error.message, WAYS_ON) from None
        raise
    finally:
        llm.close()


def _told(attempt: Attempt) -> dict[str, Any]:
    """What the gate is to know of an attempt."""
    done, failure = attempt.completion, attempt.failure
    return {
        "tokens": done.usage.total if done else None,
        "refused": failure is not None and failure.kind is FailureKind.RATE,
        "blocked_s": (failure.retry_after_s if failure else attempt.blocked_s) or 0.0,
    }


def _result(attempt: Attempt, wasted: list[Charge], failed: list[FailureKind], seconds: float) -> CallResult:
    failure = attempt.failure
    return CallResult(
        completion=attempt.completion,
        failure=CallFailure(kind=failure.kind, message=failure.message) if failure else None,
        wasted=tuple(wasted),
        attempts=len(failed) + (failure is None),
        failed_attempts=tuple(failed),
        seconds=seconds,
    )
