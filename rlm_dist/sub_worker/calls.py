"""The work of a sub worker: claim calls, run them through the model client, settle them.

Each Celery task brings the ids of some calls of one job, and ends when they have all ended; until then it
holds no thread. One thread, the ledger's, does the store's part: it settles all calls that ended since its
last round, then claims as many waiting calls as there is room for. So calls of different tasks are settled
and claimed together, with one script call per job.

A call is claimed only if its request can start at once or soon. The room is an eighth more than the slots, so
that no slot idles while the ledger's thread settles the call that used it and claims the next.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

import structlog

from rlm_dist.blobs.payloads import INLINE_CHARS, Payloads
from rlm_dist.errors import BlobError, FailureKind, RLMError
from rlm_dist.otel.spans import NO_SPANS, Spans, parent_of
from rlm_dist.schema import CallFailure, CallRequest, CallResult, Role
from rlm_dist.schema.leases import LEASE_MS
from rlm_dist.store import CallStore, Settlement
from rlm_dist.worker.accounts import Accounts, end_of_call
from rlm_dist.worker.call_spans import record_call
from rlm_dist.worker.failpoints import failpoint
from rlm_dist.worker.fallback import fallback
from rlm_dist.worker.model_client import EndedCall, ManyCalls

log = structlog.get_logger()

_LONG_PAYLOAD_THREADS = 16
# Claim 1/8 more calls than there are slots, so no slot idles while settlements are written.
_AHEAD_DIVISOR = 8
# The first of many requests are sent before the last are claimed, and few prompts are held twice meanwhile.
_CLAIMED_AT_ONCE = 256
# A longer answer may have to go to the blob store; the other calls must not wait for that.
_SHORT_CHARS = INLINE_CHARS // 8


# Called when the calls of a task have ended, with a lock held: whether all of them were begun here.
WhenOver = Callable[[bool], None]


class _Chunk:
    """The calls of one task: those that wait, and how many have not ended. The caller holds the lock."""

    __slots__ = ("_open_calls", "_was_given_back", "_when_over", "job_id", "traceparent", "waiting")

    def __init__(
        self, job_id: str, call_ids: Sequence[str], traceparent: object, when_over: WhenOver
    ) -> None:
        self.job_id = job_id
        self.traceparent = traceparent
        self.waiting = deque(call_ids)
        self._was_given_back = False
        self._when_over = when_over
        self._open_calls = len(call_ids)

    def end(self, calls: int) -> None:
        """Note that this many of its calls have ended for this worker, for any reason."""
        self._open_calls -= calls
        if calls and not self._open_calls:
            self._when_over(not self._was_given_back)

    def give_back(self) -> None:
        """Leave the waiting calls to another worker."""
        waiting = len(self.waiting)
        self._was_given_back = waiting > 0
        self.waiting.clear()
        self.end(waiting)


class _Call(NamedTuple):
    """A call that is about to be claimed, or was."""

    chunk: _Chunk
    id: str

    @property
    def job_id(self) -> str:
        """The call's job."""
        return self.chunk.job_id


class _Ended(NamedTuple):
    """A call whose request has ended, for any reason."""

    call: _Call
    request: CallRequest
    end: EndedCall

    @property
    def job_id(self) -> str:
        """The call's job."""
        return self.call.chunk.job_id


class SubCalls:
    """Runs calls through ``llm``, which makes ``slots`` at once; ``begin`` may be called from any thread.

    ``wants_more`` is called when ``has_enough`` is no longer true.
    """

    def __init__(
        self,
        *,
        calls: CallStore,
        payloads: Payloads,
        llm: ManyCalls,
        accounts: Accounts,
        owner: str,
        slots: int,
        wants_more: Callable[[], None],
        spans: Spans = NO_SPANS,
    ) -> None:
        self._calls = calls
        self._payloads = payloads
        self._llm = llm
        self._accounts = accounts
        self._owner = owner
        self._free = slots + slots // _AHEAD_DIVISOR
        self._backlog = 0
        self._enough = max(1, slots // 4)
        self._had_enough = False
        self._wants_more = wants_more
        self._spans = spans
        self._draining = False
        self._closed = False
        self._changed = threading.Condition()
        self._chunks: deque[_Chunk] = deque()  # those with waiting calls
        self._ended: list[_Ended] = []
        self._claimed: dict[_Call, Callable[[], None] | None] = {}  # what aborts each
        self._long_payloads = ThreadPoolExecutor(_LONG_PAYLOAD_THREADS, thread_name_prefix="long-payloads")
        self._ledger = threading.Thread(target=self._run_ledger, name="ledger", daemon=True)
        self._ledger.start()

    def run(self, job_id: str, call_ids: Sequence[str], traceparent: object = None) -> bool:
        """``begin``, and wait for what it tells."""
        over: Future[bool] = Future()
        self.begin(job_id, call_ids, traceparent, over.set_result)
        return over.result()

    def begin(self, job_id: str, call_ids: Sequence[str], traceparent: object, when_over: WhenOver) -> None:
        """Bring each of these calls of one job to its end, unless another worker has done so or is doing so.

        ``traceparent`` names the span that they belong to; anything that does not is ignored. ``when_over``
        is called once, when all have ended, and must return at once. It gets False if some were not begun
        because this worker stops: another worker has to make them.
        """
        if not call_ids:
            when_over(True)
            return
        chunk = _Chunk(job_id, call_ids, traceparent, when_over)
        with self._changed:
            self._chunks.append(chunk)
            self._backlog += len(call_ids)
            if self._draining:
                self._give_back()
            self._changed.notify()

    def has_enough(self) -> bool:
        """Whether further calls should go to other workers.

        True if enough calls wait here, or if the endpoint is away and a call here can try it.
        """
        return self._backlog >= self._enough or (self._llm.away and bool(self._backlog or self._claimed))

    def look(self) -> None:
        """Check whether the endpoint is back; call this regularly."""
        had_enough, self._had_enough = self._had_enough, self.has_enough()
        if had_enough and not self._had_enough:
            self._wants_more()

    def drain(self) -> None:
        """Begin no more calls; calls in flight run to their end."""
        with self._changed:
            self._draining = True
            self._give_back()
        self._llm.drain()

    def close(self) -> None:
        """End the threads made here; no ``run`` may be in progress."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._ledger.join()
        self._long_payloads.shutdown()

    def held(self) -> dict[str, list[str]]:
        """The claimed calls, by job."""
        with self._changed:
            groups = _by_job(self._claimed)
        return {job_id: [call.id for call in calls] for job_id, calls in groups.items()}

    def abort(self, job_ids: Iterable[str]) -> None:
        """Close the requests of these jobs: nobody waits for their answers."""
        ids = set(job_ids)
        with self._changed:
            aborts = [abort for call, abort in self._claimed.items() if call.job_id in ids]
        for abort in aborts:
            if abort is not None:
                abort()

    def _give_back(self) -> None:
        for chunk in self._chunks:
            chunk.give_back()
        self._chunks.clear()
        self._backlog = 0

    def _run_ledger(self) -> None:
        """The ledger's thread. Each round settles first, which frees slots for the calls it claims next."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._ended or (self._chunks and self._free))
                if self._closed:
                    return
                ended, self._ended = self._ended, []
            try:
                self._round(ended)
            except Exception:  # a failed round must not end the later ones
                log.exception("ledger_round_failed")

    def _round(self, ended: Sequence[_Ended]) -> None:
        for job_id, group in _by_job(ended).items():
            self._settle(job_id, group)
        had_enough = self.has_enough()
        for job_id, calls in _by_job(self._take()).items():
            self._begin(job_id, calls)
        if had_enough and not self.has_enough():
            self._wants_more()

    def _take(self) -> list[_Call]:
        """Take a waiting call for each free slot, up to a number; the next round takes more."""
        calls: list[_Call] = []
        with self._changed:
            most = min(self._free, _CLAIMED_AT_ONCE)
            while self._chunks and len(calls) < most:
                chunk = self._chunks[0]
                calls.append(_Call(chunk, chunk.waiting.popleft()))
                if not chunk.waiting:
                    self._chunks.popleft()
            self._free -= len(calls)
            self._backlog -= len(calls)
        return calls

    def _begin(self, job_id: str, calls: Sequence[_Call]) -> None:
        """Claim these calls, and start those whose claim succeeded."""
        try:
            requests = self._calls.claim(job_id, [call.id for call in calls], self._owner, LEASE_MS)
        except Exception:
            log.exception("calls_not_claimed", job=job_id)
            self._release(calls)
            return
        claimed = {call: packed for call, packed in zip(calls, requests, strict=True) if packed is not None}
        if claimed:
            failpoint("sub.claimed", job_id)
        with self._changed:
            self._claimed.update(dict.fromkeys(claimed))
        self._release([call for call in calls if call not in claimed])
        for call, packed in claimed.items():
            if self._payloads.is_long(packed):
                self._long_payloads.submit(self._start, call, packed)
            else:
                self._start(call, packed)

    def _start(self, call: _Call, packed: str) -> None:
        """Send the request of a call; if it cannot be read, the call fails."""
        try:
            request = self._request(call, packed)
            abort = self._send(call, request) if request else None
        except Exception:
            log.exception("call_not_started", job=call.job_id, call=call.id)
            abort = None
        if abort is None:
            self._release([call])
            return
        with self._changed:
            if call in self._claimed:  # it may have ended at once
                self._claimed[call] = abort

    def _send(self, call: _Call, request: CallRequest) -> Callable[[], None]:
        may_fall_back = self._fallback(call, request)
        return self._llm.start(
            request, call.job_id, may_fall_back, lambda end: self._note(_Ended(call, request, end))
        )

    def _fallback(self, call: _Call, request: CallRequest) -> Callable[[], bool] | None:
        return fallback(
            call.job_id, call.id, self._owner, request, calls=self._calls, accounts=self._accounts
        )

    def _request(self, call: _Call, packed: str) -> CallRequest | None:
        try:
            return CallRequest.model_validate_json(self._payloads.unpack(packed))
        except BlobError as error:
            failure = CallFailure(kind=FailureKind.INVALID, message=f"the prompt cannot be read: {error}")
            result = CallResult(failure=failure, attempts=0).model_dump_json()
            self._calls.settle(call.job_id, self._owner, [Settlement(call.id, Role.SUB, result, None)])
            return None

    def _note(self, call: _Ended) -> None:
        if _may_be_long(call.end):
            self._long_payloads.submit(self._settle, call.job_id, [call])
            return
        with self._changed:
            self._ended.append(call)
            self._changed.notify()

    def _settle(self, job_id: str, ended: Sequence[_Ended]) -> None:
        """Settle calls; if that fails, their leases lapse and other workers make them again."""
        failpoint("sub.answered", job_id)
        try:
            settlements = [self._settlement(call) for call in ended]
            self._calls.settle(job_id, self._owner, settlements)
            self._record(ended, settlements)
        except Exception:
            log.exception("calls_not_settled", job=job_id)
        finally:
            self._release([ended_call.call for ended_call in ended])
        failpoint("sub.settled", job_id)

    def _record(self, ended: Sequence[_Ended], settlements: Sequence[Settlement]) -> None:
        if not self._spans.on:
            return
        for (call, request, end), settlement in zip(ended, settlements, strict=True):
            if end.cancelled() or not end.exception():  # a bug of ours: its settlement logged it
                parent = parent_of(call.job_id, call.chunk.traceparent)
                record_call(self._spans, call.job_id, parent, request, _result(end), settlement)

    def _settlement(self, ended: _Ended) -> Settlement:
        try:
            return self._end(ended)
        except RLMError:  # Redis is away, or the job is gone
            raise
        except Exception as error:  # the calls that ended with it are to be settled
            log.exception("call_not_accounted", job=ended.job_id, call=ended.call.id)
            failure = CallFailure(kind=FailureKind.INVALID, message=f"internal error: {type(error).__name__}")
            result = CallResult(failure=failure).model_dump_json()
            return Settlement(ended.call.id, Role.SUB, result, None)

    def _end(self, ended: _Ended) -> Settlement:
        call, request, end = ended
        result = _result(end)
        if result.failure is not None and result.failure.kind == FailureKind.CANCELLED:
            return self._accounts.settlement(call.id, request, result, "")
        _, settlement = end_of_call(
            call.id, request, result,
            job_id=call.job_id, payloads=self._payloads, accounts=self._accounts,
        )  # fmt: skip
        return settlement

    def _release(self, calls: Iterable[_Call]) -> None:
        """Free the slots of these calls: this worker is done with them."""
        with self._changed:
            for call in calls:
                self._claimed.pop(call, None)
                self._free += 1
                call.chunk.end(1)
            self._changed.notify()


class _HasJob(Protocol):
    @property
    def job_id(self) -> str: ...


Item = TypeVar("Item", bound=_HasJob)


def _by_job(items: Iterable[Item]) -> dict[str, list[Item]]:
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.job_id].append(item)
    return groups


def _may_be_long(end: EndedCall) -> bool:
    completion = None if end.cancelled() or end.exception() else end.result().completion
    return completion is not None and len(completion.text) > _SHORT_CHARS


def _result(end: EndedCall) -> CallResult:
    if not end.cancelled():
        return end.result()
    return CallResult(
        failure=CallFailure(kind=FailureKind.CANCELLED, message="the job ended while the call ran")
    )
