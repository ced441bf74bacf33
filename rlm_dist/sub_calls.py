"""A sub worker's part: claim calls, run them through the model client, settle them.

Each Celery task brings the ids of some calls of one job. Its thread claims as many as there are free slots
in the process, hands them to the event loop, and settles those that came back, together where they fall
together.
A call is claimed only when its request can start at once, so that a lease always means work under way.
"""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait

from rlm_dist import chaos
from rlm_dist.calls import Accounts, unstorable
from rlm_dist.errors import BlobError, FailureKind
from rlm_dist.leases import LEASE_MS
from rlm_dist.llm import LLM
from rlm_dist.models import CallFailure, CallRequest, CallResult, Role
from rlm_dist.store import Settlement, Store
from rlm_dist.texts import Texts

Running = dict[Future[CallResult], tuple[str, CallRequest]]


class SubCalls:
    """Runs calls, at most ``slots`` at once in this process; ``run`` is called from many threads."""

    def __init__(
        self, *, store: Store, texts: Texts, llm: LLM, accounts: Accounts, owner: str, slots: int
    ) -> None:
        self._store = store
        self._texts = texts
        self._llm = llm
        self._accounts = accounts
        self._owner = owner
        self._slots = threading.BoundedSemaphore(slots)
        self._draining = threading.Event()
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], Future[CallResult]] = {}

    def run(self, job_id: str, call_ids: Sequence[str]) -> bool:
        """Bring each of these calls of one job to its end, unless somebody else did or does.

        False where some were not begun, because this worker stops: they are for another one.
        """
        todo = deque(call_ids)
        running: Running = {}
        try:
            while running or (todo and not self._draining.is_set()):
                self._start(job_id, self._take(todo, may_wait=not running), running)
                if running:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    self._settle(job_id, [(future, *running.pop(future)) for future in done])
            return not todo
        finally:
            for future, (call_id, _) in running.items():
                future.cancel()
                self._release(job_id, [call_id])

    def drain(self) -> None:
        """Begin no more calls; those under way go on to their end."""
        self._draining.set()
        self._llm.drain()

    def held(self) -> dict[str, list[str]]:
        """The calls under way, by job."""
        with self._lock:
            calls: dict[str, list[str]] = {}
            for job_id, call_id in self._held:
                calls.setdefault(job_id, []).append(call_id)
            return calls

    def abort(self, job_ids: Iterable[str]) -> None:
        """Close the requests of these jobs, for whose answers nobody waits."""
        wanted = set(job_ids)
        with self._lock:
            futures = [future for (job_id, _), future in self._held.items() if job_id in wanted]
        for future in futures:
            future.cancel()

    def _take(self, todo: deque[str], *, may_wait: bool) -> list[str]:
        """As many of ``todo`` as there are free slots, at least one where waiting is allowed."""
        taken: list[str] = []
        while todo and not self._draining.is_set() and self._slots.acquire(blocking=may_wait and not taken):
            taken.append(todo.popleft())
        return taken

    def _start(self, job_id: str, call_ids: Sequence[str], running: Running) -> None:
        """Claim these calls and start those that were won; gives the slots of the others back."""
        waiting = list(call_ids)
        try:
            claimed = self._store.claim(job_id, call_ids, self._owner, LEASE_MS) if call_ids else []
            if any(claimed):
                chaos.point("sub.claimed", job_id)
            for call_id, packed in zip(call_ids, claimed, strict=True):
                if packed is None:
                    continue
                request = self._request(job_id, call_id, packed)
                if request is None:
                    continue
                future = self._llm.submit(request, job_id)
                running[future] = (call_id, request)
                waiting.remove(call_id)
                with self._lock:
                    self._held[job_id, call_id] = future
        finally:
            self._release(job_id, waiting)

    def _settle(self, job_id: str, ended: Sequence[tuple[Future[CallResult], str, CallRequest]]) -> None:
        chaos.point("sub.answered", job_id)
        try:
            settlements = [
                self._settlement(job_id, call_id, request, _result(future))
                for future, call_id, request in ended
            ]
            self._store.settle(job_id, self._owner, settlements)
        finally:
            self._release(job_id, [call_id for _, call_id, _ in ended])
        chaos.point("sub.settled", job_id)

    def _request(self, job_id: str, call_id: str, packed: str) -> CallRequest | None:
        """The request of a call; one that cannot be read fails the call."""
        try:
            return CallRequest.model_validate_json(self._texts.unpack(packed))
        except BlobError as error:
            failure = CallFailure(kind=FailureKind.INVALID, message=f"the prompt cannot be read: {error}")
            result = CallResult(failure=failure, attempts=0).model_dump_json()
            self._store.settle(job_id, self._owner, [Settlement(call_id, Role.SUB, result, None)])
            return None

    def _settlement(self, job_id: str, call_id: str, request: CallRequest, result: CallResult) -> Settlement:
        if result.failure is not None and result.failure.kind == FailureKind.CANCELLED:
            return self._accounts.settlement(call_id, request, result, "")
        try:
            packed = self._texts.pack(job_id, result.model_dump_json())
        except BlobError as error:
            result = unstorable(result, error)
            packed = result.model_dump_json()
        return self._accounts.settlement(call_id, request, result, packed)

    def _release(self, job_id: str, call_ids: Sequence[str]) -> None:
        with self._lock:
            for call_id in call_ids:
                self._held.pop((job_id, call_id), None)
        for _ in call_ids:
            self._slots.release()


def _result(future: Future[CallResult]) -> CallResult:
    try:
        return future.result()
    except CancelledError:
        failure = CallFailure(kind=FailureKind.CANCELLED, message="the job ended while the call ran")
        return CallResult(failure=failure)
