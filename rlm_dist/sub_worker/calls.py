"""A sub worker's part: claim calls, run them through the model client, settle them.

Each Celery task brings the ids of some calls of one job, and its thread sleeps until they have all ended. One
thread, the ledger's, does what concerns the store: it settles all calls that came back since its last round,
then claims as many of those that wait as there is room for. What falls together, of whichever tasks, so
goes together, one script call a job.
A call is claimed when its request can start at once, or soon: an eighth more than there are slots, so that
no slot is empty while the ledger's thread settles the call that had it and claims the next.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

import structlog

from rlm_dist.blobs.payloads import INLINE_CHARS, Payloads
from rlm_dist.errors import BlobError, FailureKind
from rlm_dist.schema import CallFailure, CallRequest, CallResult, Role
from rlm_dist.schema.leases import LEASE_MS
from rlm_dist.store import CallStore, Settlement
from rlm_dist.worker.accounts import Accounts, end_of_call
from rlm_dist.worker.failpoints import failpoint
from rlm_dist.worker.model_client import ModelClient

log = structlog.get_logger()

_LONG_TEXT_THREADS = 16
# Of the slots: so many calls more are claimed than can be under way.
_AHEAD = 8
# A longer answer may have to go to the blob store, which the others must not wait for.
_SHORT_CHARS = INLINE_CHARS // 8


class _Chunk:
    """The calls of one task: those that wait, and how many are not over. Guarded by its user."""

    def __init__(self, job_id: str, call_ids: Sequence[str]) -> None:
        self.job_id = job_id
        self.waiting = deque(call_ids)
        self.given_back = False
        self.over = threading.Event()
        self._left = len(call_ids)

    def end(self, calls: int) -> None:
        """Note that some of its calls are no longer ours, in whatever way."""
        self._left -= calls
        if not self._left:
            self.over.set()

    def give_back(self) -> None:
        """Leave the calls that wait to another worker."""
        waiting = len(self.waiting)
        self.given_back = waiting > 0
        self.waiting.clear()
        self.end(waiting)


class _Call(NamedTuple):
    """A call that was taken to be claimed."""

    chunk: _Chunk
    id: str

    @property
    def job_id(self) -> str:
        """Its job."""
        return self.chunk.job_id


class _EndedCall(NamedTuple):
    """A call whose request has ended, however."""

    call: _Call
    request: CallRequest
    future: Future[CallResult]

    @property
    def job_id(self) -> str:
        """The call's job."""
        return self.call.chunk.job_id


class SubCalls:
    """Runs calls through ``llm``, which has ``slots`` of them under way; ``run`` is called from many threads.

    ``wants_more`` is called when ``has_enough`` is true no longer.
    """

    def __init__(
        self,
        *,
        calls: CallStore,
        payloads: Payloads,
        llm: ModelClient,
        accounts: Accounts,
        owner: str,
        slots: int,
        wants_more: Callable[[], None],
    ) -> None:
        self._calls = calls
        self._payloads = payloads
        self._llm = llm
        self._accounts = accounts
        self._owner = owner
        self._free = slots + slots // _AHEAD
        self._backlog = 0
        self._enough = max(1, slots // 4)
        self._had_enough = False
        self._wants_more = wants_more
        self._draining = False
        self._closed = False
        self._changed = threading.Condition()
        self._chunks: deque[_Chunk] = deque()  # those with calls that wait
        self._answered: list[_EndedCall] = []
        self._held: dict[_Call, Future[CallResult] | None] = {}
        self._long_payloads = ThreadPoolExecutor(_LONG_TEXT_THREADS, thread_name_prefix="long-payloads")
        self._ledger = threading.Thread(target=self._keep, name="ledger", daemon=True)
        self._ledger.start()

    def run(self, job_id: str, call_ids: Sequence[str]) -> bool:
        """Bring each of these calls of one job to its end, unless somebody else did or does.

        False where some were not begun, because this worker stops: they are for another one.
        """
        if not call_ids:
            return True
        chunk = _Chunk(job_id, call_ids)
        with self._changed:
            self._chunks.append(chunk)
            self._backlog += len(call_ids)
            if self._draining:
                self._give_back()
            self._changed.notify()
        chunk.over.wait()
        return not chunk.given_back

    def has_enough(self) -> bool:
        """Whether further calls are better left to other workers.

        So many wait here, or the endpoint is away and there is a call here to try it with.
        """
        return self._backlog >= self._enough or (self._llm.away and bool(self._backlog or self._held))

    def look(self) -> None:
        """To be called now and then: the endpoint may be back."""
        had_enough, self._had_enough = self._had_enough, self.has_enough()
        if had_enough and not self._had_enough:
            self._wants_more()

    def drain(self) -> None:
        """Begin no more calls; those under way go on to their end."""
        with self._changed:
            self._draining = True
            self._give_back()
        self._llm.drain()

    def close(self) -> None:
        """End the threads made here; no ``run`` is under way."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._ledger.join()
        self._long_payloads.shutdown()

    def held(self) -> dict[str, list[str]]:
        """The calls under way, by job."""
        with self._changed:
            return {job_id: [call.id for call in calls] for job_id, calls in _by_job(self._held).items()}

    def abort(self, job_ids: Iterable[str]) -> None:
        """Close the requests of these jobs, for whose answers nobody waits."""
        wanted = set(job_ids)
        with self._changed:
            futures = [future for call, future in self._held.items() if call.job_id in wanted]
        for future in futures:
            if future is not None:
                future.cancel()

    def _give_back(self) -> None:
        for chunk in self._chunks:
            chunk.give_back()
        self._chunks.clear()
        self._backlog = 0

    def _keep(self) -> None:
        """The ledger's thread. It settles first: the slots of what it settles are then free for others."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or self._answered or (self._chunks and self._free)
                )
                if self._closed:
                    return
                answered, self._answered = self._answered, []
            try:
                self._round(answered)
            except Exception:  # a bad round must not end the rounds after it
                log.exception("ledger_round_failed")

    def _round(self, answered: Sequence[_EndedCall]) -> None:
        for job_id, group in _by_job(answered).items():
            self._settle(job_id, group)
        had_enough = self.has_enough()
        for job_id, calls in _by_job(self._take()).items():
            self._begin(job_id, calls)
        if had_enough and not self.has_enough():
            self._wants_more()

    def _take(self) -> list[_Call]:
        """A waiting call for each free slot."""
        taken: list[_Call] = []
        with self._changed:
            while self._chunks and len(taken) < self._free:
                chunk = self._chunks[0]
                taken.append(_Call(chunk, chunk.waiting.popleft()))
                if not chunk.waiting:
                    self._chunks.popleft()
            self._free -= len(taken)
            self._backlog -= len(taken)
        return taken

    def _begin(self, job_id: str, calls: Sequence[_Call]) -> None:
        """Claim these calls and start those that were won."""
        try:
            claimed = self._calls.claim(job_id, [call.id for call in calls], self._owner, LEASE_MS)
        except Exception:
            log.exception("calls_not_claimed", job=job_id)
            self._release(calls)
            return
        won = {call: packed for call, packed in zip(calls, claimed, strict=True) if packed is not None}
        if won:
            failpoint("sub.claimed", job_id)
        with self._changed:
            self._held.update(dict.fromkeys(won))
        self._release([call for call in calls if call not in won])
        for call, packed in won.items():
            if self._payloads.is_long(packed):
                self._long_payloads.submit(self._start, call, packed)
            else:
                self._start(call, packed)

    def _start(self, call: _Call, packed: str) -> None:
        """Send the request of a call; one that cannot be read fails the call."""
        try:
            request = self._request(call, packed)
            future = self._llm.submit(request, call.job_id) if request else None
        except Exception:
            log.exception("call_not_started", job=call.job_id)
            request = future = None
        if request is None or future is None:
            self._release([call])
            return
        with self._changed:
            self._held[call] = future
        future.add_done_callback(lambda ended: self._note(_EndedCall(call, request, ended)))

    def _request(self, call: _Call, packed: str) -> CallRequest | None:
        try:
            return CallRequest.model_validate_json(self._payloads.unpack(packed))
        except BlobError as error:
            failure = CallFailure(kind=FailureKind.INVALID, message=f"the prompt cannot be read: {error}")
            result = CallResult(failure=failure, attempts=0).model_dump_json()
            self._calls.settle(call.job_id, self._owner, [Settlement(call.id, Role.SUB, result, None)])
            return None

    def _note(self, answered: _EndedCall) -> None:
        if _may_be_long(answered.future):
            self._long_payloads.submit(self._settle, answered.job_id, [answered])
            return
        with self._changed:
            self._answered.append(answered)
            self._changed.notify()

    def _settle(self, job_id: str, answered: Sequence[_EndedCall]) -> None:
        """Settle calls; where that fails, their leases lapse and others do them again."""
        failpoint("sub.answered", job_id)
        try:
            self._calls.settle(job_id, self._owner, [self._settlement(each) for each in answered])
        except Exception:
            log.exception("calls_not_settled", job=job_id)
        finally:
            self._release([each.call for each in answered])
        failpoint("sub.settled", job_id)

    def _settlement(self, answered: _EndedCall) -> Settlement:
        call, request, future = answered
        result = _result(future)
        if result.failure is not None and result.failure.kind == FailureKind.CANCELLED:
            return self._accounts.settlement(call.id, request, result, "")
        _, settlement = end_of_call(
            call.id, request, result,
            job_id=call.job_id, payloads=self._payloads, accounts=self._accounts,
        )  # fmt: skip
        return settlement

    def _release(self, calls: Iterable[_Call]) -> None:
        """Free the slots of these calls, which are over here."""
        with self._changed:
            for call in calls:
                self._held.pop(call, None)
                self._free += 1
                call.chunk.end(1)
            self._changed.notify()


class _OfJob(Protocol):
    @property
    def job_id(self) -> str: ...


Item = TypeVar("Item", bound=_OfJob)


def _by_job(items: Iterable[Item]) -> dict[str, list[Item]]:
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.job_id].append(item)
    return groups


def _may_be_long(future: Future[CallResult]) -> bool:
    done = None if future.cancelled() or future.exception() else future.result().completion
    return done is not None and len(done.text) > _SHORT_CHARS


def _result(future: Future[CallResult]) -> CallResult:
    try:
        return future.result()
    except CancelledError:
        failure = CallFailure(kind=FailureKind.CANCELLED, message="the job ended while the call ran")
        return CallResult(failure=failure)
