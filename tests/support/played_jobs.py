"""Jobs played by a test that acts as their worker: taken up, paid for, ended."""

import uuid
from collections.abc import Callable, Sequence

from rlm_dist.schema import CallRequest, CallResult, Completion, JobState, Outcome, Role, Usage
from rlm_dist.store import OpenCall, Settlement, Spend, Store
from tests.support.store_values import finish_job, start_job

LEASE_MS = 60_000
# kombu's list for messages of normal priority.
ROOT_LIST = "rlm.root"


def take(store: Store, job_id: str) -> int:
    """The epoch of a job in this worker's hands; the worker takes the job if it has not yet."""
    return start_job(store, job_id, "worker", LEASE_MS) or store.jobs.get(job_id).epoch


def play(store: Store, job_id: str, outcome: Outcome) -> None:
    """Act as a root worker would on a job."""
    assert finish_job(store, job_id, take(store, job_id), outcome)


def answered(text: str) -> Outcome:
    return Outcome(state=JobState.SUCCEEDED, answer=text, iterations=2)


def pay(store: Store, job_id: str, role: Role, nanousd: int | None) -> None:
    """Act as a worker would on a call that cost something."""
    epoch = take(store, job_id)
    call_id = uuid.uuid4().hex
    store.calls.open(job_id, epoch, [OpenCall(call_id, "{}", 1, 1, role)])
    if role is Role.SUB:  # a root call is held by whoever opened it
        assert store.calls.claim(job_id, [call_id], "worker", LEASE_MS) == ["{}"]
    spend = Spend("model", Usage(input_tokens=100, output_tokens=10), nanousd)
    store.calls.settle(job_id, "worker", [Settlement(call_id, role, CallResult().model_dump_json(), spend)])


class PlayedSubWorker:
    """Claims and answers each call at once; ``reply`` makes the answer from the name of the call's model."""

    def __init__(self, store: Store, reply: Callable[[str], str]) -> None:
        self._store = store
        self._reply = reply
        self.models: list[str] = []  # of the calls, in order

    def send(self, job_id: str, turn: int, chunks: Sequence[Sequence[str]], traceparent: str | None) -> None:
        """A fan-out's ``send``."""
        usage = Usage(input_tokens=1)
        for call_id in (call_id for chunk in chunks for call_id in chunk):
            (packed,) = self._store.calls.claim(job_id, [call_id], "sub-1", LEASE_MS)
            model = CallRequest.model_validate_json(packed or "").model
            self.models.append(model)
            done = Completion(text=self._reply(model), usage=usage, finish_reason="stop", model=model)
            result = CallResult(completion=done).model_dump_json()
            settlement = Settlement(call_id, Role.SUB, result, Spend(model, usage, None))
            self._store.calls.settle(job_id, "sub-1", [settlement])
