"""The distributed ``llm_query``: prompts go out as tasks by id, answers come back over a reply stream.

A call is opened in the store (named, its budget reserved), sent in a task with others, answered by any sub
worker, and announced on the job's stream. One reader thread a job follows that stream; the threads that ask
sleep until their calls are in. A message is a hint only: calls that nobody holds are sent again, so a lost
message or a lost reply is a delay.

Invariant: at most ``fair_window().calls`` calls of this job are in the queue or in flight, so that a large
job cannot keep a small one waiting. Within the job, what asks for fewer calls goes first, then what came
first: the parts of a large batch so end one after another, and the next come while others are under way.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import structlog

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import CallError, RLMError
from rlm_dist.schema import Answer, CallRequest, CallResult, JobSpec, Message, Role
from rlm_dist.schema.events import Emit, SubCallsAnswered
from rlm_dist.schema.leases import RENEW_S
from rlm_dist.store import CallRefused, CallState, OpenCall, Store, Window
from rlm_dist.worker.accounts import Accounts
from rlm_dist.worker.call_ids import CallIds
from rlm_dist.worker.failpoints import failpoint
from rlm_dist.worker.heartbeats import OutageDetector

log = structlog.get_logger()

CHUNK_CALLS = 16
# So that workers with few slots get a like number of calls each.
_CHUNKS_A_WORKER = 16
_PIECES_A_WINDOW = 4
_FETCH_CALLS = 64
_RECHECK_CALLS = 500
_READ_BLOCK_MS = 1000
RECHECK_S = 3.0
# A call that nobody has claimed for so long has no message any more, if the queue is empty; where the queue
# is never empty, its message may just be far behind.
UNCLAIMED_MS = 10_000
_LONG_UNCLAIMED_MS = 300_000


class Send(Protocol):
    """Puts sub tasks on the queue, each with the ids of some calls."""

    def __call__(self, job_id: str, turn: int, chunks: Sequence[Sequence[str]]) -> None: ...


# Calls that have come in, with their stored results where these are known already.
Arrived = dict[str, str | None]


class _Ask:
    """One ``query`` of ``size`` prompts in a turn: how many of its calls are under way, and the replies."""

    def __init__(self, size: int, turn: int) -> None:
        self.size = size
        self.turn = turn
        self.left = 0
        self.arrived: Arrived = {}


class FanOut:
    """Serves the ``llm_query`` of one run of one job; ``query`` may be called from several threads."""

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
    ) -> None:
        self._spec = spec
        self._epoch = epoch
        self._store = store
        self._payloads = payloads
        self._accounts = accounts
        self._send = send
        self._queue_is_empty = queue_is_empty
        self._emit = emit
        self._names = CallIds(spec.id)
        self._changed = threading.Condition()
        self._outstanding: dict[str, _Ask] = {}
        self._asking: list[_Ask] = []  # those with prompts that wait for room, as they came
        self._window = Window(0, 0)
        self._window_at = -math.inf
        self._error: RLMError | None = None
        self._closed = False
        self._reader: threading.Thread | None = None

    def query(
        self, prompts: Sequence[tuple[Message, ...]], model: str | None, *, turn: int = 0
    ) -> list[Answer]:
        """Ask every prompt and wait for all answers, in the order asked.

        Raises:
            LimitExceeded, UnknownPrice: where a budget of the job or its batch allows no such call.
            CallError: where every further call would fail likewise (key, quota, unknown model).
            RLMError: what ``abort`` was given.
        """
        started = time.monotonic()
        ids, answered, from_store = self._ask(prompts, model or self._spec.sub_model, turn)
        failpoint("calls.answered", self._spec.id)
        answers = [answered[call_id] for call_id in ids]
        if from_store:
            self._store.jobs.note_cache_hits(self._spec.id, from_store)
        failed = [answer.failure for answer in answers if answer.failure is not None]
        if ids:
            self._emit(
                SubCallsAnswered(
                    first_call_id=ids[0],
                    calls=len(ids),
                    failed=len(failed),
                    from_store=from_store,
                    failed_attempts=Counter(kind for answer in answers for kind in answer.failed_attempts),
                    seconds=time.monotonic() - started,
                )
            )
        for failure in failed:
            error = CallError(failure.kind, failure.message)
            if error.fatal and model is None:
                raise error
        return answers

    def rewind(self) -> None:
        """Name calls from the start again, before the same cells are run once more."""
        self._names.rewind()

    def abort(self, error: RLMError) -> None:
        """Make every waiting and every later ``query`` raise ``error``."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the reader thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._reader is not None:
            self._reader.join()

    def _open_call(self, messages: tuple[Message, ...], model: str) -> OpenCall:
        request = CallRequest(
            role=Role.SUB, model=model, messages=messages, cache=self._spec.cache,
            **self._spec.sub_parameters.model_dump(),
        )  # fmt: skip
        tokens, nanousd = self._accounts.reserve(request)
        return OpenCall(
            call_id=self._names.name(request),
            request=self._payloads.pack(self._spec.id, request.model_dump_json()),
            reserve_tokens=tokens,
            reserve_nanousd=nanousd,
        )

    def _ask(
        self, prompts: Sequence[tuple[Message, ...]], model: str, turn: int
    ) -> tuple[list[str], dict[str, Answer], int]:
        """Send what is not answered yet, as the window allows, and wait.

        Returns the call ids in order, the answers by id, and how many were answered before.
        """
        ask = _Ask(len(prompts), turn)
        ids: list[str] = []
        answers: dict[str, Answer] = {}
        from_store = 0
        try:
            for piece in self._pieces(prompts, model, ask):
                ids += [call.call_id for call in piece]
                from_store += self._open(piece, model, turn)
                answers.update(self._answers(self._take(ask, at_least=0)))
            while len(answers) < len(ids):
                answers.update(self._answers(self._take(ask, at_least=_FETCH_CALLS)))
            return ids, answers, from_store
        finally:
            self._forget(ask)

    def _pieces(
        self, prompts: Sequence[tuple[Message, ...]], model: str, ask: _Ask
    ) -> Iterator[Sequence[OpenCall]]:
        """Calls for some of the prompts, yielded when the window has room for them, and as outstanding."""
        position = 0
        with self._changed:
            self._asking.append(ask)
        while position < len(prompts):
            size = max(1, self._fair_window().calls // _PIECES_A_WINDOW)
            piece = [self._open_call(messages, model) for messages in prompts[position : position + size]]
            position += len(piece)
            with self._changed:
                self._wait(partial(self._may_go, ask, len(piece)))
                self._outstanding.update((call.call_id, ask) for call in piece)
                ask.left += len(piece)
                if position == len(prompts):
                    self._asking.remove(ask)
                    self._changed.notify_all()
                self._start_reader()
            yield piece

    def _fair_window(self) -> Window:
        """This job's window, asked for anew where it may have changed."""
        if time.monotonic() - self._window_at > RENEW_S:
            self._window = self._store.workers.fair_window()
            self._window_at = time.monotonic()
        return self._window

    def _may_go(self, ask: _Ask, calls: int) -> bool:
        """Whether it is its turn and so many calls may go out; where none is out, the window has shrunk."""
        if min(self._asking, key=lambda each: each.size) is not ask:
            return False
        return not self._outstanding or len(self._outstanding) + calls <= self._window.calls

    def _take(self, ask: _Ask, *, at_least: int) -> Arrived:
        """The calls that have come in since the last time: so many, or all that are under way."""
        with self._changed:
            self._wait(lambda: len(ask.arrived) >= at_least or not ask.left)
            arrived, ask.arrived = ask.arrived, {}
        return arrived

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Wait for a change, under the lock; raises what ``abort`` was given."""
        self._changed.wait_for(lambda: ready() or self._error is not None)
        if self._error is not None:
            raise self._error

    def _open(self, piece: Sequence[OpenCall], model: str, turn: int) -> int:
        states = self._store.calls.open(self._spec.id, self._epoch, piece)
        refused = next((state for state in states if isinstance(state, CallRefused)), None)
        to_send = [
            call.call_id
            for call, state in zip(piece, states, strict=True)
            if state in (CallState.NEW, CallState.PENDING)
        ]
        failpoint("calls.opened", self._spec.id)
        self._dispatch(to_send, turn)
        failpoint("calls.sent", self._spec.id)
        if refused is not None:
            raise refused.error(self._accounts.resolved(Role.SUB, model))
        settled = [
            call.call_id for call, state in zip(piece, states, strict=True) if state is CallState.SETTLED
        ]
        self._arrived(dict.fromkeys(settled))
        return len(settled)

    def _dispatch(self, call_ids: Sequence[str], turn: int) -> None:
        calls, workers = self._window
        size = max(1, min(calls // (_CHUNKS_A_WORKER * max(1, workers)), CHUNK_CALLS))
        chunks = [call_ids[start : start + size] for start in range(0, len(call_ids), size)]
        if chunks:
            self._send(self._spec.id, turn, chunks)

    def _arrived(self, arrived: Arrived) -> None:
        with self._changed:
            for call_id, packed in arrived.items():
                ask = self._outstanding.pop(call_id, None)
                if ask is not None:
                    ask.left -= 1
                    ask.arrived[call_id] = packed
            self._changed.notify_all()

    def _forget(self, ask: _Ask) -> None:
        with self._changed:
            if ask in self._asking:
                self._asking.remove(ask)
                self._changed.notify_all()
            if ask.left:
                self._outstanding = {
                    key: value for key, value in self._outstanding.items() if value is not ask
                }

    def _answers(self, arrived: Arrived) -> Iterator[tuple[str, Answer]]:
        unknown = [call_id for call_id, packed in arrived.items() if packed is None]
        stored = zip(unknown, self._store.calls.answers(self._spec.id, unknown), strict=True)
        for call_id, packed in (arrived | dict(stored)).items():
            yield call_id, self._answer(call_id, packed)

    def _answer(self, call_id: str, packed: str | None) -> Answer:
        if packed is None:
            raise AssertionError(f"call {call_id} was announced as settled and has no result")
        result = CallResult.model_validate_json(self._payloads.unpack(packed))
        text = result.completion.text if result.completion else None
        return Answer(
            call_id=call_id, text=text, failure=result.failure, failed_attempts=result.failed_attempts
        )

    def _start_reader(self) -> None:
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, name=f"replies-{self._spec.id}", daemon=True)
            self._reader.start()

    def _read(self) -> None:
        cursor = "0"
        checked = time.monotonic()
        outages = OutageDetector(RECHECK_S)
        try:
            while self._wait_for_calls():
                outages.begin()
                replies = self._store.calls.replies(self._spec.id, cursor, block_ms=_READ_BLOCK_MS)
                if replies:
                    cursor = replies[-1].cursor
                    self._arrived({reply.call_id: reply.packed for reply in replies})
                settled = outages.over()
                if settled and time.monotonic() - checked > RECHECK_S:
                    self._recheck()
                    checked = time.monotonic()
        except RLMError as error:
            self.abort(error)
        except Exception as error:
            log.exception("reply_reader_failed", job=self._spec.id)
            self.abort(RLMError(f"the reader of replies failed: {type(error).__name__}"))

    def _wait_for_calls(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._outstanding))
            return not self._closed

    def _recheck(self) -> None:
        """Look at the calls themselves: a reply or a message may be lost."""
        with self._changed:
            turns = {call_id: ask.turn for call_id, ask in self._outstanding.items()}
        ids = list(turns)
        pending_ms = UNCLAIMED_MS if self._queue_is_empty() else _LONG_UNCLAIMED_MS
        for start in range(0, len(ids), _RECHECK_CALLS):
            piece = ids[start : start + _RECHECK_CALLS]
            found = self._store.calls.answers(self._spec.id, piece)
            self._arrived(
                {call_id: packed for call_id, packed in zip(piece, found, strict=True) if packed is not None}
            )
            lost = self._store.calls.lost(self._spec.id, piece, pending_ms=pending_ms)
            for turn in sorted({turns[call_id] for call_id in lost}):
                self._dispatch([call_id for call_id in lost if turns[call_id] == turn], turn)
