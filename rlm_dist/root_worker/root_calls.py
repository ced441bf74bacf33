"""The calls of the root model: each has an id and an entry in the ledger, like a sub-call."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import CallError, Parked, RLMError, Superseded
from rlm_dist.schema import CallRequest, CallResult, Completion, JobSpec, Message, Role
from rlm_dist.schema.events import Emit, Marked
from rlm_dist.store import CallRefused, CallState, CallStore, OpenCall
from rlm_dist.worker.accounts import Accounts, end_of_call
from rlm_dist.worker.call_ids import CallIds
from rlm_dist.worker.failpoints import failpoint
from rlm_dist.worker.fallback import fallback
from rlm_dist.worker.model_client import ModelClient

_POLL_S = 0.2
# A request in flight is paid for, so a job that is parked or was taken over waits this long for its answer
# before it closes the request. Below the 10 s that ``local.cluster`` gives its workers to stop.
PARK_GRACE_S = 7.0


class RootCalls:
    """Calls the root model for one run of one job."""

    def __init__(
        self,
        *,
        spec: JobSpec,
        epoch: int,
        owner: str,
        calls: CallStore,
        payloads: Payloads,
        llm: ModelClient,
        accounts: Accounts,
        emit: Emit,
    ) -> None:
        self._spec = spec
        self._epoch = epoch
        self._owner = owner
        self._calls = calls
        self._payloads = payloads
        self._llm = llm
        self._accounts = accounts
        self._emit = emit
        self._call_ids = CallIds(spec.id)
        self._error: RLMError | None = None

    def complete(self, messages: Sequence[Message]) -> Completion:
        """Ask the root model, or take the answer from the store if an earlier run of the job received it.

        Raises:
            CallError: if the call failed for good.
            LimitExceeded, UnknownPrice: if a budget does not allow the call.
            Parked: if the call was given back because the batch is paused or the worker stops.
            RLMError: the error passed to ``abort``.
        """
        if self._error is not None:
            raise self._error
        request = CallRequest(
            role=Role.ROOT, model=self._spec.model, messages=tuple(messages),
            **self._spec.root_parameters.model_dump(),
        )  # fmt: skip
        call_id = self._call_ids.name(request)
        result = self._stored_result(call_id, request) or self._ask(call_id, request)
        if result.failure is not None:
            raise CallError(result.failure.kind, result.failure.message)
        assert result.completion is not None  # a result has a failure or a completion
        return result.completion

    def abort(self, error: RLMError) -> None:
        """Close the request in flight, after a grace if the job is not over; later ones raise ``error``."""
        self._error = self._error or error
        self._llm.drop(self._spec.id)

    def _stored_result(self, call_id: str, request: CallRequest) -> CallResult | None:
        tokens, nanousd = self._accounts.reserve(request)
        # No other worker makes a root call, so its request (the whole chat, each turn) is not stored.
        call = OpenCall(
            call_id=call_id, request="{}", reserve_tokens=tokens, reserve_nanousd=nanousd, role=Role.ROOT
        )
        (state,) = self._calls.open(self._spec.id, self._epoch, [call])
        if isinstance(state, CallRefused):
            raise state.error(self._accounts.resolved(Role.ROOT, request.model))
        if state is not CallState.SETTLED:
            return None
        (packed,) = self._calls.answers(self._spec.id, [call_id])
        return CallResult.model_validate_json(self._payloads.unpack(packed or ""))

    def _ask(self, call_id: str, request: CallRequest) -> CallResult:
        failpoint("root.opened", self._spec.id)
        may_fall_back = fallback(
            self._spec.id, call_id, "root", request, calls=self._calls, accounts=self._accounts
        )
        result = self._wait(self._llm.submit(request, self._spec.id, may_fall_back))
        if result.failed_attempts:
            kinds = ", ".join(result.failed_attempts)
            self._emit(Marked(turn=0, kind="root_attempts_failed", detail=kinds))
        failpoint("root.answered", self._spec.id)
        result, settlement = end_of_call(
            call_id, request, result,
            job_id=self._spec.id, payloads=self._payloads, accounts=self._accounts,
        )  # fmt: skip
        (is_settled,) = self._calls.settle(self._spec.id, self._owner, [settlement])
        failpoint("root.settled", self._spec.id)
        if settlement.returned is not None and not is_settled:
            raise self._error or Parked(self._spec.id, settlement.returned or "its worker stops")
        return result

    def _wait(self, future: Future[CallResult]) -> CallResult:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        grace_ends = None
        while not done.wait(_POLL_S):
            if isinstance(self._error, Parked | Superseded):
                grace_ends = grace_ends or time.monotonic() + PARK_GRACE_S
            if self._error is not None and time.monotonic() >= (grace_ends or 0.0):
                future.cancel()
                raise self._error
        return future.result()
