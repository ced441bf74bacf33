"""The calls of the root model: each has an id and an entry in the ledger, like a sub-call."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.engine.loop import LAST_OUTPUT_CHARS
from rlm_dist.errors import CallError, Parked, RLMError, Superseded
from rlm_dist.root_worker.room import Room
from rlm_dist.schema import (
    CHARS_PER_TOKEN,
    CallRequest,
    CallResult,
    Completion,
    JobSpec,
    Message,
    ReachedLimit,
    Role,
    Usage,
)
from rlm_dist.schema.events import Emit, Marked
from rlm_dist.store import CallRefused, CallState, CallStore, OpenCall, Settlement
from rlm_dist.store.journals import NO_ENTRIES, Entries
from rlm_dist.worker.accounts import Accounts, end_of_call
from rlm_dist.worker.call_ids import CallIds, part_of
from rlm_dist.worker.failpoints import failpoint
from rlm_dist.worker.fallback import fallback
from rlm_dist.worker.model_client import ModelClient

_POLL_S = 0.2
# A request in flight is paid for, so a job that is parked or was taken over waits this long for its answer
# before it closes the request. Below the 10 s that ``local.cluster`` gives its workers to stop.
PARK_GRACE_S = 7.0
# What a turn adds to the chat besides the model's reply: a short output and the notes.
_NEXT_CHARS = LAST_OUTPUT_CHARS + 1000

RecordCall = Callable[[CallRequest, CallResult, Settlement], None]


class RootCalls:
    """Calls the root model for one run of one sample of a job."""

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
        record: RecordCall = lambda *_: None,
        sample: int = 0,
        room: Room | None = None,
        sending: Callable[[], AbstractContextManager[Entries]] = lambda: nullcontext(NO_ENTRIES),
    ) -> None:
        """``record`` is called with each call that was settled here; samples of a job share ``room``.

        ``sending`` is that of the ``JournalWriter`` whose entries the chats of these calls rest on.
        """
        self._spec = spec
        self._epoch = epoch
        self._owner = owner
        self._calls = calls
        self._payloads = payloads
        self._llm = llm
        self._accounts = accounts
        self._emit = emit
        self._record = record
        self._call_ids = CallIds(spec.id, part_of(sample))
        self._room = room or Room(partial(calls.keep, spec.id, epoch))
        self._sample = sample
        self._sending = sending
        self._last: tuple[CallRequest, Completion] | None = None
        self._error: RLMError | None = None
        self._marked_parameters: set[str] = set()

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
        stored = self._stored_result(call_id, request)
        result = stored or self._ask(call_id, request)
        if result.failure is not None:
            raise CallError(result.failure.kind, result.failure.message)
        assert result.completion is not None  # a result has a failure or a completion
        self._last = request, result.completion
        self._mark_dropped(result.completion, is_new=stored is None)
        return result.completion

    def keep_room(self) -> None:
        """Keep what is left of the budgets for one more root call, as far as there is so much left.

        Its chat is that of the last call, its reply, and an output that is cut as before a last turn.
        """
        if self._last is None:
            return
        request, completion = self._last
        chars = request.chars + len(completion.text) + _NEXT_CHARS
        tokens, nanousd = self._accounts.reserve(request, self._expected(chars))
        self._room.keep(self._sample, tokens=tokens, nanousd=nanousd or 0, partly=True)

    def keep_room_for_two(self, chars: int) -> ReachedLimit | None:
        """Keep room for two more root calls, the first of ``chars``; the limit if they do not fit.

        What the first is expected to use suffices for it: the rest of its reservation comes back before the
        second begins.
        """
        if self._last is None:
            return None
        request, completion = self._last
        first = self._expected(chars, 2 * completion.usage.output_tokens)
        second = self._expected(chars + first.output_tokens * CHARS_PER_TOKEN + _NEXT_CHARS)
        pairs = [self._accounts.reserve(request, usage) for usage in (first, second)]
        tokens = sum(tokens for tokens, _ in pairs)
        nanousd = sum(nanousd or 0 for _, nanousd in pairs)
        refused = self._room.keep(self._sample, tokens=tokens, nanousd=nanousd)
        return ReachedLimit(refused.kind, refused.used, refused.limit, refused.needed) if refused else None

    def leave_room(self) -> None:
        """Keep no more: the sample has ended."""
        self._room.leave(self._sample)

    def _expected(self, chars: int, output_tokens: int | None = None) -> Usage:
        """The estimated tokens of a call whose chat has ``chars`` characters, from those of the last call.

        ``output_tokens`` replaces the most that it may write.
        """
        assert self._last is not None
        request, completion = self._last
        used, expected = completion.usage, request.expected
        tokens_a_char = max(1 / CHARS_PER_TOKEN, used.input_tokens / max(1, request.chars))
        most = max(expected.output_tokens, used.output_tokens)
        return Usage(
            input_tokens=round(chars * tokens_a_char),
            output_tokens=most if output_tokens is None else min(most, output_tokens),
            tier=request.asked_tier,
        )

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
        with self._room.drawing(self._sample), self._sending() as entries:
            (state,) = self._calls.open(self._spec.id, self._epoch, [call], entries)
        if isinstance(state, CallRefused):
            raise state.error(self._accounts.resolved(Role.ROOT, request.model))
        if state is not CallState.SETTLED:
            return None
        (packed,) = self._calls.answers(self._spec.id, [call_id])
        return CallResult.model_validate_json(self._payloads.unpack(packed or ""))

    def _mark_dropped(self, completion: Completion, *, is_new: bool) -> None:
        """Put parameters that the model does not take into the trace, once for the job."""
        names = [name for name in completion.dropped_parameters if name not in self._marked_parameters]
        self._marked_parameters.update(names)
        if names and is_new:  # an earlier run of the job marked those of a stored answer
            self._emit(Marked(turn=0, kind="parameters_not_taken", detail=", ".join(names)))

    def _ask(self, call_id: str, request: CallRequest) -> CallResult:
        failpoint("root.opened", self._spec.id)
        may_fall_back = fallback(
            self._spec.id, call_id, "root", request, calls=self._calls, accounts=self._accounts
        )
        result = self._wait(call_id, self._llm.submit(request, self._spec.id, may_fall_back))
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
        self._record(request, result, settlement)
        if settlement.returned is not None and not is_settled:
            raise self._error or Parked(self._spec.id, settlement.returned or "its worker stops")
        return result

    def _wait(self, call_id: str, future: Future[CallResult]) -> CallResult:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        grace_ends = None
        while not done.wait(_POLL_S):
            if isinstance(self._error, Parked | Superseded):
                grace_ends = grace_ends or time.monotonic() + PARK_GRACE_S
            if self._error is not None and time.monotonic() >= (grace_ends or 0.0):
                future.cancel()
                if not isinstance(
                    self._error, Parked | Superseded
                ):  # the job ends: the call is no longer in flight
                    self._calls.settle(self._spec.id, self._owner, [Settlement(call_id, Role.ROOT, "", None)])
                raise self._error
        return future.result()
