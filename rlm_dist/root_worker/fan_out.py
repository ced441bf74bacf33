"""The distributed ``llm_query``: call ids go out in tasks, answers come back over a reply stream.

A call is opened in the store (it gets its id, and its budget is reserved), sent in a task with other calls,
answered by any sub worker, and announced on the job's reply stream. One reader thread per job follows that
stream; the threads that called ``query`` sleep until their calls are settled. Messages are only hints: calls
that no worker holds are sent again, so a lost message or a lost reply costs only time.

Invariant: at most ``fair_window().calls`` calls of this job are queued or in flight, so a large job cannot
keep a small one waiting. Within the job, the query with the fewest prompts goes first, then the oldest. So
the parts of a large batch finish one after another, and the next ones are sent while others are in flight.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import CallError, FailureKind, LimitExceeded, RLMError
from rlm_dist.json_schemas import JsonSchema
from rlm_dist.root_worker.named_models import NamedModels
from rlm_dist.root_worker.reply_waiter import ReplyWaiter
from rlm_dist.schema import (
    DEFAULT_TIER,
    Answer,
    CallFailure,
    CallRequest,
    CallResult,
    JobSpec,
    Message,
    Role,
)
from rlm_dist.schema.events import Emit, SubCallsAnswered
from rlm_dist.schema.id_lists import pack_ids
from rlm_dist.schema.leases import RENEW_S
from rlm_dist.store import CallRefused, CallState, OpenCall, Store, Window
from rlm_dist.worker.accounts import Accounts
from rlm_dist.worker.call_ids import CallIds
from rlm_dist.worker.failpoints import failpoint
from rlm_dist.worker.heartbeats import OutageDetector

CHUNK_CALLS = 16
# Smaller chunks for small windows, so that workers with few slots get about equally many calls.
_CHUNKS_A_WORKER = 16
_PIECES_A_WINDOW = 4
_FETCH_CALLS = 64
_RECHECK_CALLS = 500
_READ_BLOCK_MS = 1000
RECHECK_S = 3.0
# A call that has been unclaimed for this long counts as lost: its message is gone if the queue is empty. If
# the queue is not empty, the message may just be far back in it; then the long time applies.
UNCLAIMED_MS = 10_000
_LONG_UNCLAIMED_MS = 300_000


class Send(Protocol):
    """Puts sub tasks on the queue, one per chunk of call ids; ``traceparent`` names the cell that asked."""

    def __call__(
        self, job_id: str, turn: int, chunks: Sequence[Sequence[str]], traceparent: str | None
    ) -> None: ...


# The ids of settled calls, each with its packed result, or None if that must still be read from the store.
Replies = dict[str, str | None]


class _OpenQuery:
    """A ``query`` of ``size`` prompts in a turn: how many of its calls are unanswered, and new replies."""

    def __init__(
        self, size: int, turn: int, traceparent: str | None, schema: JsonSchema | None = None
    ) -> None:
        self.size = size
        self.schema = schema
        self.turn = turn
        self.traceparent = traceparent
        self.unanswered = 0
        self.replies: Replies = {}


class FanOut(ReplyWaiter):
    """Serves ``llm_query`` for one run of one part of a job; ``query`` may be called from several threads.

    A job may have ``parts`` that run at once, each with a fan-out of its own: each has its share of the
    window. ``part`` names the one that this is, so that its calls are its own.
    """

    def __init__(
        self,
        *,
        spec: JobSpec,
        epoch: int,
        store: Store,
        payloads: Payloads,
        accounts: Accounts,
        send: Send,
        queue_is_empty: Callable[[], bool],
        emit: Emit,
        part: str = "",
        parts: int = 1,
    ) -> None:
        super().__init__(spec.id)
        self._spec = spec
        self._epoch = epoch
        self._store = store
        self._payloads = payloads
        self._accounts = accounts
        self._send = send
        self._queue_is_empty = queue_is_empty
        self._emit = emit
        self._named_models = NamedModels(spec, accounts.resolve)
        self._call_ids = CallIds(spec.id, part)
        self._parts = parts
        self._outstanding: dict[str, _OpenQuery] = {}
        self._unsent: list[_OpenQuery] = []  # the queries with prompts that wait for room, oldest first
        self._window = Window(0, 0)
        self._window_at = -math.inf
        self.asked = 0  # prompts in this run of the job, those that were answered before included

    def query(
        self,
        prompts: Sequence[tuple[Message, ...]],
        model: str | None,
        *,
        turn: int = 0,
        traceparent: str | None = None,
        schema: JsonSchema | None = None,
        by_user: bool = False,
    ) -> list[Answer]:
        """Send every prompt, wait for all answers, and return them in the order of the prompts.

        ``schema`` goes to the endpoint with each call; whether answers conform is not checked here.
        ``by_user`` says that the user, not code, named ``model``. A call that does not fit into a limit of
        the job or its batch is not made: its answer is a failure of kind ``limit``, and ``take_limits``
        returns the limit.

        Raises:
            UnknownPrice: if there is a money budget, but no price for the model.
            ModelNotAllowed: if the job may not use ``model``.
            CallError: if every further call would fail in the same way (key, quota, unknown model).
            RLMError: the error passed to ``abort``.
        """
        started = time.monotonic()
        with self._changed:
            self.asked += len(prompts)
        query = _OpenQuery(len(prompts), turn, traceparent, schema)
        named = model if by_user and model is not None else self._named_models.model(model)
        ids, by_id, from_store = self._query_all(prompts, named, query)
        failpoint("calls.answered", self._spec.id)
        answers = [by_id[call_id] for call_id in ids]
        if from_store:
            self._store.jobs.note_cache_hits(self._spec.id, from_store)
        failures = [answer.failure for answer in answers if answer.failure is not None]
        if ids:
            self._emit(
                SubCallsAnswered(
                    first_call_id=ids[0],
                    calls=len(ids),
                    failed=len(failures),
                    from_store=from_store,
                    failed_attempts=Counter(kind for answer in answers for kind in answer.failed_attempts),
                    tiers=Counter(
                        answer.tier for answer in answers if answer.tier not in (None, DEFAULT_TIER)
                    ),
                    seconds=time.monotonic() - started,
                    call_ids=pack_ids(ids),
                )
            )
        for failure in failures:
            error = CallError(failure.kind, failure.message)
            if error.fatal and model is None:
                raise error
        return answers

    def rewind(self) -> None:
        """Give out call ids from the start again, before the same cells are run again."""
        self._call_ids.rewind()

    def _open_call(self, messages: tuple[Message, ...], model: str, schema: JsonSchema | None) -> OpenCall:
        request = CallRequest(
            role=Role.SUB, model=model, messages=messages,
            cache=self._spec.cache and self._spec.samples == 1,  # votes are worth as much as they are apart
            response_schema=None if schema is None else dict(schema),
            **self._spec.sub_parameters.model_dump(),
        )  # fmt: skip
        tokens, nanousd = self._accounts.reserve(request)
        return OpenCall(
            call_id=self._call_ids.name(request),
            request=self._payloads.pack(self._spec.id, request.model_dump_json()),
            reserve_tokens=tokens,
            reserve_nanousd=nanousd,
        )

    def _query_all(
        self, prompts: Sequence[tuple[Message, ...]], model: str, query: _OpenQuery
    ) -> tuple[list[str], dict[str, Answer], int]:
        """Send the calls without an answer, as the window allows, and wait for all answers.

        Returns the call ids in order, the answers by id, and how many calls were already answered.
        """
        ids: list[str] = []
        answers: dict[str, Answer] = {}
        from_store = 0
        try:
            for piece in self._pieces(prompts, model, query):
                ids += [call.call_id for call in piece]
                from_store += self._open(piece, model, query)
                answers.update(self._answers(self._take(query, at_least=0)))
            while len(answers) < len(ids):
                answers.update(self._answers(self._take(query, at_least=_FETCH_CALLS)))
            return ids, answers, from_store
        finally:
            self._forget(query)

    def _pieces(
        self, prompts: Sequence[tuple[Message, ...]], model: str, query: _OpenQuery
    ) -> Iterator[Sequence[OpenCall]]:
        """Yield the calls in pieces, each once the window has room for it and it is noted as outstanding."""
        position = 0
        with self._changed:
            self._unsent.append(query)
        while position < len(prompts):
            size = max(1, self._fair_window().calls // _PIECES_A_WINDOW)
            piece = [
                self._open_call(messages, model, query.schema)
                for messages in prompts[position : position + size]
            ]
            position += len(piece)
            with self._changed:
                self._wait(partial(self._may_send, query, len(piece)))
                self._outstanding.update((call.call_id, query) for call in piece)
                query.unanswered += len(piece)
                if position == len(prompts):
                    self._unsent.remove(query)
                    self._changed.notify_all()
                self._start_reader()
            yield piece

    def _fair_window(self) -> Window:
        """This job's window, read from the store again every ``RENEW_S``."""
        if time.monotonic() - self._window_at > RENEW_S:
            window = self._store.workers.fair_window()
            self._window = window._replace(calls=max(1, window.calls // self._parts))
            self._window_at = time.monotonic()
        return self._window

    def _may_send(self, query: _OpenQuery, calls: int) -> bool:
        """Whether it is this query's turn to send ``calls`` calls.

        They may exceed the window if no call is outstanding: the window has then shrunk since they were made.
        """
        if min(self._unsent, key=lambda unsent: unsent.size) is not query:
            return False
        return not self._outstanding or len(self._outstanding) + calls <= self._window.calls

    def _take(self, query: _OpenQuery, *, at_least: int) -> Replies:
        """Take the replies received since the last call; wait until ``at_least`` are in or none are due."""
        with self._changed:
            self._wait(lambda: len(query.replies) >= at_least or not query.unanswered)
            replies, query.replies = query.replies, {}
        return replies

    def _open(self, piece: Sequence[OpenCall], model: str, query: _OpenQuery) -> int:
        states = self._store.calls.open(self._spec.id, self._epoch, piece)
        refused = {
            call.call_id: state.error(self._accounts.resolved(Role.SUB, model))
            for call, state in zip(piece, states, strict=True)
            if isinstance(state, CallRefused)
        }
        to_send = [
            call.call_id
            for call, state in zip(piece, states, strict=True)
            if state in (CallState.NEW, CallState.PENDING)
        ]
        failpoint("calls.opened", self._spec.id)
        self._dispatch(to_send, query)
        failpoint("calls.sent", self._spec.id)
        self._refuse(refused)
        settled = [
            call.call_id for call, state in zip(piece, states, strict=True) if state is CallState.SETTLED
        ]
        self._receive(dict.fromkeys(settled))
        return len(settled)

    def _refuse(self, errors: Mapping[str, RLMError]) -> None:
        """Answer calls that did not fit into a limit; raises any other reason why calls were not opened."""
        replies: Replies = {}
        for call_id, error in errors.items():
            if not isinstance(error, LimitExceeded):
                raise error
            failure = CallFailure(kind=FailureKind.LIMIT, message=f"not made: {error}")
            replies[call_id] = CallResult(failure=failure, attempts=0).model_dump_json()
            self._note_limit(error)
        self._receive(replies)

    def _dispatch(self, call_ids: Sequence[str], query: _OpenQuery) -> None:
        calls, workers = self._window
        size = max(1, min(calls // (_CHUNKS_A_WORKER * max(1, workers)), CHUNK_CALLS))
        chunks = [call_ids[start : start + size] for start in range(0, len(call_ids), size)]
        if chunks:
            self._send(self._spec.id, query.turn, chunks, query.traceparent)

    def _receive(self, replies: Replies) -> None:
        with self._changed:
            for call_id, packed in replies.items():
                query = self._outstanding.pop(call_id, None)
                if query is not None:
                    query.unanswered -= 1
                    query.replies[call_id] = packed
            self._changed.notify_all()

    def _forget(self, query: _OpenQuery) -> None:
        with self._changed:
            if query in self._unsent:
                self._unsent.remove(query)
                self._changed.notify_all()
            if query.unanswered:
                self._outstanding = {
                    call_id: owner for call_id, owner in self._outstanding.items() if owner is not query
                }

    def _answers(self, replies: Replies) -> Iterator[tuple[str, Answer]]:
        unread = [call_id for call_id, packed in replies.items() if packed is None]
        stored = zip(unread, self._store.calls.answers(self._spec.id, unread), strict=True)
        for call_id, packed in (replies | dict(stored)).items():
            yield call_id, self._answer(call_id, packed)

    def _answer(self, call_id: str, packed: str | None) -> Answer:
        if packed is None:
            raise AssertionError(f"call {call_id} was announced as settled but has no result")
        result = CallResult.model_validate_json(self._payloads.unpack(packed))
        completion = result.completion
        tier = completion.usage.tier if completion else None
        if completion is not None:
            self._accounts.note_tier(Role.SUB, self._spec.sub_parameters.asked_tier, tier)
        return Answer(
            call_id=call_id,
            text=completion.text if completion else None,
            truncated=completion is not None and completion.truncated,
            failure=result.failure,
            failed_attempts=result.failed_attempts,
            tier=tier,
        )

    def _follow(self) -> None:
        cursor = "0"
        checked = time.monotonic()
        outages = OutageDetector(RECHECK_S)
        while self._wait_for_calls():
            outages.begin()
            replies = self._store.calls.replies(self._spec.id, cursor, block_ms=_READ_BLOCK_MS)
            if replies:
                cursor = replies[-1].cursor
                self._receive({reply.call_id: reply.packed for reply in replies})
            reachable = outages.over()
            if reachable and time.monotonic() - checked > RECHECK_S:
                self._recheck()
                checked = time.monotonic()

    def _wait_for_calls(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._outstanding))
            return not self._closed

    def _recheck(self) -> None:
        """Check the outstanding calls in the store, as a reply or a message may be lost."""
        with self._changed:
            queries = dict(self._outstanding)
        ids = list(queries)
        pending_ms = UNCLAIMED_MS if self._queue_is_empty() else _LONG_UNCLAIMED_MS
        for start in range(0, len(ids), _RECHECK_CALLS):
            piece = ids[start : start + _RECHECK_CALLS]
            stored = zip(piece, self._store.calls.answers(self._spec.id, piece), strict=True)
            self._receive({call_id: packed for call_id, packed in stored if packed is not None})
            lost = self._store.calls.lost(self._spec.id, piece, pending_ms=pending_ms)
            for query in dict.fromkeys(queries[call_id] for call_id in lost):
                self._dispatch([call_id for call_id in lost if queries[call_id] is query], query)
