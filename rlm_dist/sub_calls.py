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

from rlm_dist.calls import Accounts
from rlm_dist.errors import FailureKind
from rlm_dist.leases import LEASE_MS
from rlm_dist.llm import LLM
from rlm_dist.models import CallFailure, CallRequest, CallResult
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
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], Future[CallResult]] = {}

    def run(self, job_id: str, call_ids: Sequence[str]) -> None:
        """Bring each of these calls of one job to its end, unless somebody else did or does."""
        todo = deque(call_ids)
        running: Running = {}
        try:
            while todo or running:
                self._start(job_id, self._take(todo, may_wait=not running), running)
                if running:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    self._settle(job_id, [(future, *running.pop(future)) for future in done])
        finally:
            for future, (call_id, _) in running.items():
                future.cancel()
                self._release(job_id, [call_id])

    def held(self) -> dict[str, list[str]]:
        """The calls under way, by job."""
        with self._lock:
            calls: dict[str, list[str]] = {}
            for job_id, call_id in self._held:
                calls.setdefault(job_id, []).append(call_id)
            return calls

    def abort(self, job_ids: Iterable[str]) -> None:
        """Close the requests of these jobs; their calls settle as cancelled."""
        wanted = set(job_ids)
        with self._lock:
            futures = [future for (job_id, _), future in self._held.items() if job_id in wanted]
        for future in futures:
            future.cancel()

    def _take(self, todo: deque[str], *, may_wait: bool) -> list[str]:
        """As many of ``todo`` as there are free slots, at least one where waiting is allowed."""
        taken: list[str] = []
        while todo and self._slots.acquire(blocking=may_wait and not taken):
            taken.append(todo.popleft())
        return taken

    def _start(self, job_id: str, call_ids: Sequence[str], running: Running) -> None:
        """Claim these calls and start those that were won; gives the slots of the others back."""
        waiting = list(call_ids)
        try:
            claimed = self._store.claim(job_id, call_ids, self._owner, LEASE_MS) if call_ids else []
            for call_id, packed in zip(call_ids, claimed, strict=True):
                if packed is None:
                    continue
                request = CallRequest.model_validate_json(self._texts.unpack(packed))
                future = self._llm.submit(request)
                running[future] = (call_id, request)
                waiting.remove(call_id)
                with self._lock:
                    self._held[job_id, call_id] = future
        finally:
            self._release(job_id, waiting)

    def _settle(self, job_id: str, ended: Sequence[tuple[Future[CallResult], str, CallRequest]]) -> None:
        settlements = [
            self._settlement(job_id, call_id, request, _result(future)) for future, call_id, request in ended
        ]
        try:
            self._store.settle(job_id, self._owner, settlements)
        finally:
            self._release(job_id, [call_id for _, call_id, _ in ended])

    def _settlement(self, job_id: str, call_id: str, request: CallRequest, result: CallResult) -> Settlement:
        packed = self._texts.pack(job_id, result.model_dump_json())
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
