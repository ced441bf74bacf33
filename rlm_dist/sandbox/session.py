"""The session with one REPL process: a reader thread, the process's sub-calls, and the reply to each order.

All input is hostile until ``messages.parse`` accepts it; a process that breaks the protocol is ended.
A process can fill only a bounded part of the host's memory: while too many calls are open, or their frames
or unread answers are too large, nothing more is read from it. Nobody waits for a process that reads nothing;
one that reads nothing for ``UNREAD_S`` is ended.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from rlm_dist.errors import CallError, FailureKind, ModelNotAllowed, ReplLost, RLMError, SandboxError
from rlm_dist.json_schemas import JsonSchema
from rlm_dist.sandbox.frame_writer import FrameWriter
from rlm_dist.sandbox.host_work import HostWork
from rlm_dist.sandbox.inside.frames import CHUNK_BYTES, MAX_FRAME, FrameError, encoded, pack, receive
from rlm_dist.sandbox.messages import (
    Asked,
    ChildMessage,
    ChildrenAsked,
    QueryAsked,
    ToolAsked,
    UploadPiece,
    UploadsForgotten,
    parse,
)
from rlm_dist.sandbox.shared_memory import SharedMemory
from rlm_dist.sandbox.tools import HostTools, ToolReply
from rlm_dist.sandbox.uploads import Children, Uploads
from rlm_dist.schema import Answer, ContextRef, Message

_shared_memory = SharedMemory()  # of the calls of all sessions of this process
_MAX_THREADS = 64
_MAX_OPEN_CALLS = 1024
_MAX_OPEN_BYTES = 256 << 20
_MAX_ANSWER_BYTES = MAX_FRAME // 2
_MAX_UNREAD_BYTES = 64 << 20
_LARGE_BYTES = 64 << 10  # of a frame that takes more than a moment to read
_LIVENESS_S = 0.5
_AT_ONCE_S = 1.0
_LAST_WORDS_S = 1.0
# Far longer than an honest process does not read: its reader is a thread of its own, but code that holds the
# interpreter's lock can keep it from running for as long as a block may run.
UNREAD_S = 300.0
_ReplyAnswer = dict[str, str | bool]  # an answer in a reply frame


class Query(Protocol):
    """Serves ``llm_query``; called from several threads at once.

    Returns one answer for each prompt, in order. CallError fails only these calls unless it is fatal,
    ModelNotAllowed is raised where they were asked for, and other errors end the cell.
    """

    def __call__(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]: ...


class QueryAhead(Protocol):
    """Serves calls of which the code has asked for the first only, and is about to ask for the others.

    As ``Query``; None takes the place of an answer to a call, not the first, for which there was no room.
    """

    def __call__(
        self, prompts: Sequence[tuple[Message, ...]], model: str | None
    ) -> Sequence[Answer | None]: ...


class TypedQuery(Protocol):
    """As ``Query``; the text of each answer is JSON that conforms to ``schema``, which has been checked."""

    def __call__(
        self, prompts: Sequence[tuple[Message, ...]], model: str | None, schema: JsonSchema
    ) -> list[Answer]: ...


class ReplProcess(Protocol):
    """One REPL process."""

    def alive(self) -> bool: ...

    def interrupt(self) -> None: ...

    def await_exit(self) -> None: ...

    def kill(self) -> str: ...


class Stopwatch:
    """Measures the time in which no sub-call is open; its user holds a lock around each use.

    If all calls failed at once, their time counts: otherwise a loop of such calls could run for ever.
    """

    def __init__(self) -> None:
        self._used = 0.0
        self._began = time.monotonic()
        self._since: float | None = self._began
        self._stopped_at = self._began
        self._all_failed = True
        self._waited = 0.0
        self._waits_since: float | None = None

    def stop(self) -> None:
        """Stop counting: a call is open."""
        if self._since is not None:
            self._stopped_at = time.monotonic()
            self._all_failed = True
            self._used += self._stopped_at - self._since
            self._since = None

    def note(self, *, all_failed: bool) -> None:
        """Note how an open call ended."""
        self._all_failed = self._all_failed and all_failed

    def go(self) -> None:
        """Resume counting: no call is open."""
        if self._since is None:
            self._since = time.monotonic()
            if self._all_failed and self._since - self._stopped_at < _AT_ONCE_S:
                self._used += self._since - self._stopped_at

    @property
    def elapsed_s(self) -> float:
        """Seconds counted so far."""
        running = time.monotonic() - self._since if self._since is not None else 0.0
        return self._used + running

    def wait(self, *, child_open: bool) -> None:
        """Note whether a child is open: that time is not in ``total_s``."""
        now = time.monotonic()
        if self._waits_since is not None:
            self._waited += now - self._waits_since
        self._waits_since = now if child_open else None

    @property
    def total_s(self) -> float:
        """Seconds since it was made, open calls included, but for the time in which a child was open."""
        now = time.monotonic()
        waiting = now - self._waits_since if self._waits_since is not None else 0.0
        return now - self._began - self._waited - waiting

    @property
    def running(self) -> bool:
        """Whether it is counting."""
        return self._since is not None


class ReplSession:
    """One REPL process from its start to its end."""

    def __init__(
        self,
        process: ReplProcess,
        channel: socket.socket,
        query: Query,
        query_ahead: QueryAhead,
        tools: HostTools,
        *,
        typed_query: TypedQuery | None = None,
        children: Children | None = None,
    ) -> None:
        self.process = process
        self.calls = 0
        self.failed_calls = 0
        self.truncated_calls = 0
        self._channel = channel
        self._query = query
        self._query_ahead = query_ahead
        self._typed_query = typed_query
        self._tools = tools
        self._changed = threading.Condition()
        self._children = children
        self._uploads = Uploads(children) if children is not None else None
        self._open: dict[tuple[str, int], int] = {}  # kind and id of a call → its bytes of memory
        self._writer = FrameWriter(channel, self._changed)
        self._stopwatch = Stopwatch()
        self._work = HostWork()
        self._reply: ChildMessage | None = None
        self._reply_due = False
        self._failure: BaseException | None = None
        self._reason: str | None = None
        self._gone: str | None = None
        self._pool = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="llm_query")
        self._reader = threading.Thread(target=self._read, name="repl-reader", daemon=True)
        self._reader.start()

    @property
    def gone(self) -> str | None:
        """How the process ended; None while it runs."""
        with self._changed:
            return self._gone

    def order(self, message: dict[str, object]) -> None:
        """Send an order; never waits. ``wait`` then waits for its one reply."""
        with self._changed:
            self._reply = None
            self._reply_due = True
            self._stopwatch = Stopwatch()
            if self._open:
                self._stopwatch.stop()
            self._stopwatch.wait(child_open=self._child_open)
        self._send(message)

    def wait(self, limit_s: float, until: float | None) -> ChildMessage | None:
        """Wait a while for the reply: until something happens or the time may be up; None if none has come.

        The time is up at ``until`` (monotonic clock) or, if it is None, when ``counted_s`` is ``limit_s``.
        """
        with self._changed:
            if self._reply is None and self._gone is None and self._failure is None:
                pause = _LIVENESS_S
                if until is not None:
                    pause = min(pause, until - time.monotonic())
                elif self._stopwatch.running:
                    pause = min(pause, limit_s - self._stopwatch.elapsed_s)
                self._changed.wait(max(pause, 0))
            reply, self._reply = self._reply, None
            unread = self._writer.unread_bytes and time.monotonic() - self._writer.unread_since > UNREAD_S
        if unread:
            self.end("it did not read what was sent to it")
        elif reply is None and not self.process.alive():
            self._reader.join(_LAST_WORDS_S)  # the process may have replied before it ended
            self.end()
            with self._changed:
                reply, self._reply = self._reply, None
        return reply

    @property
    def counted_s(self) -> float:
        """Seconds since the order in which no sub-call was open."""
        with self._changed:
            return self._stopwatch.elapsed_s

    @property
    def total_s(self) -> float:
        """Seconds since the order."""
        with self._changed:
            return self._stopwatch.total_s

    def take_failure(self) -> BaseException | None:
        """The error that must end the cell; it is returned only once."""
        with self._changed:
            failure, self._failure = self._failure, None
            return failure

    def fail(self, error: BaseException) -> None:
        """Make ``error`` end the running cell, or the next one; only the first error counts."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def end(self, reason: str | None = None) -> None:
        """End the process if it still runs, and record how it ended; may be called twice, from any thread."""
        with self._changed:
            self._reason = self._reason or reason  # set before the reader sees the process die of it
        ending = self.process.kill()
        with self._changed:
            self._gone = self._gone or self._reason or ending
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._writer.end()
        with contextlib.suppress(OSError):  # wakes both threads; the reader closes the socket
            self._channel.shutdown(socket.SHUT_RDWR)

    def _send(self, message: dict[str, object]) -> None:
        try:
            self._writer.send(pack(message))
        except RuntimeError:
            self.end("no thread can be started to write to it")

    def _read(self) -> None:
        reason = None
        try:
            with contextlib.suppress(ConnectionResetError):  # the process ended with orders unread
                while (payload := receive(self._channel.recv)) is not None:
                    self._take(self._parsed(payload))
            self.process.await_exit()
        except (FrameError, SandboxError) as error:
            reason = f"it broke the frame protocol: {error}"
        except OSError:
            pass  # another thread is ending the session
        finally:
            self.end(reason)
            if self._uploads is not None:
                self._uploads.close()
            self._writer.join()
            self._channel.close()

    def _parsed(self, payload: bytes) -> ChildMessage:
        if len(payload) < _LARGE_BYTES:
            return parse(payload)
        with self._work:
            return parse(payload)

    def _take(self, message: ChildMessage) -> None:
        contexts: Sequence[ContextRef | None] = ()
        if isinstance(message, UploadPiece | UploadsForgotten | ChildrenAsked):
            if self._uploads is None:
                raise SandboxError("a frame for children in a job that has none")
            if not isinstance(message, ChildrenAsked):
                self._take_context(self._uploads, message)
                return
            contexts = self._uploads.contexts(message)
            if len(contexts) != len(message.prompts):
                raise SandboxError("a number of contexts that is not that of the prompts")
        with self._changed:
            if not isinstance(message, QueryAsked | ChildrenAsked | ToolAsked):
                if not self._reply_due:
                    raise SandboxError(f"a {message.op} frame without an order")
                self._reply_due = False
                self._reply = message
                self._changed.notify_all()
                return
            if (message.op, message.id) in self._open:
                raise SandboxError("a call id that is still open")
            cost = message.cost
            while self._gone is None:
                lent = self._admitted(cost)
                if lent is not None:
                    self._open_call(message, contexts, lent)
                    return
                self._changed.wait(_LIVENESS_S)  # another session that gives memory back wakes nobody here

    def _open_call(
        self, message: Asked | ToolAsked, contexts: Sequence[ContextRef | None], lent: int
    ) -> None:
        """Have a call served by a thread, with the lock held; then give back what was ``lent`` to it."""
        self._open[message.op, message.id] = message.cost
        self._stopwatch.stop()
        self._stopwatch.wait(child_open=self._child_open)
        if isinstance(message, ToolAsked):
            served = self._pool.submit(self._serve_tool, message)
        else:
            self.calls += len(message.prompts)
            served = self._pool.submit(self._serve, message, contexts)
        served.add_done_callback(lambda _: _shared_memory.give_back(lent))  # also if it is never begun

    @property
    def _child_open(self) -> bool:
        return any(op == "children" for op, _ in self._open)

    def _take_context(self, uploads: Uploads, message: UploadPiece | UploadsForgotten) -> None:
        """Take a piece of a context; the cell's clock stands still meanwhile, as a store may be slow."""
        if isinstance(message, UploadsForgotten):
            uploads.forget(message.ids)
            return
        with self._changed:
            self._stopwatch.stop()
            self._stopwatch.note(all_failed=False)
        try:
            uploads.take(message)
        except (FrameError, SandboxError):
            raise
        except BaseException as error:  # noqa: BLE001  # it ends the cell, as one of a query does
            self.fail(error)
            raise SandboxError("a context for a child could not be stored") from None
        finally:
            with self._changed:
                if not self._open:
                    self._stopwatch.go()

    def _admitted(self, size: int) -> int | None:
        """The shared memory lent to a call of this many bytes; None if there is no room for it yet."""
        fits = len(self._open) < _MAX_OPEN_CALLS and sum(self._open.values()) + size <= _MAX_OPEN_BYTES
        if not fits or self._writer.unread_bytes > _MAX_UNREAD_BYTES:
            return None
        if not self._open:
            return 0
        return size if _shared_memory.lend(size) else None

    def _serve(self, message: Asked, contexts: Sequence[ContextRef | None]) -> None:
        """Answer one query frame; the stopwatch resumes before the reply is written."""
        answers = self._answers(message, contexts)
        failed = sum("failure" in answer for answer in answers)
        truncated = sum("truncated" in answer for answer in answers)
        unmade = sum("refused" in answer or "unmade" in answer for answer in answers)
        with self._changed:
            self.failed_calls += failed
            self.truncated_calls += truncated
            self.calls -= unmade
            self._close_call(message, all_failed=failed + unmade == len(answers))
        for at, part in _parts(answers):
            self._send({"op": "reply", "id": message.id, "at": at, "answers": part})

    def _serve_tool(self, message: ToolAsked) -> None:
        """Answer one call of a tool; the stopwatch resumes before the reply is written."""
        try:
            reply = self._tools.call(message.name, message.arguments)
        except BaseException as error:  # noqa: BLE001  # the edge of a thread: ``run`` raises it
            self.fail(error)
            reply = ToolReply(None, message="the job ends")
        with self._changed:
            self._close_call(message, all_failed=reply.result is None)
        self._send(reply.frame(message.id))

    def _close_call(self, message: Asked | ToolAsked, *, all_failed: bool) -> None:
        """Note that a call was answered, with the lock held."""
        del self._open[message.op, message.id]
        self._stopwatch.note(all_failed=all_failed)
        self._stopwatch.wait(child_open=self._child_open)
        if not self._open:
            self._stopwatch.go()
        self._changed.notify_all()

    def _answers(self, message: Asked, contexts: Sequence[ContextRef | None]) -> list[_ReplyAnswer]:
        count = len(message.prompts)
        try:
            answers: Sequence[Answer | None]
            if isinstance(message, QueryAsked):
                with self._work if message.response_schema is not None else contextlib.nullcontext():
                    problem = message.schema_problem
                if problem:
                    return [{"refused": problem}] * count
                answers = self._ask(message)
            else:
                assert self._children is not None  # else its frame was refused
                answers = self._children.ask(message.prompts, contexts, message.model)
            if len(answers) != count:
                raise SandboxError(f"the query returned {len(answers)} answers for {count} calls")
            return [_reply_answer(answer) for answer in answers]
        except ModelNotAllowed as error:
            return [{"refused": str(error)}] * count
        except (CallError, ReplLost) as error:
            if isinstance(error, CallError) and error.fatal:
                self.fail(error)
            return [{"failure": str(error)}] * count
        except BaseException as error:  # noqa: BLE001  # the edge of a thread: ``run`` raises it
            self.fail(error)
            return [{"failure": str(error) if isinstance(error, RLMError) else "internal error"}] * count

    def _ask(self, message: QueryAsked) -> Sequence[Answer | None]:
        if message.response_schema is None:
            query: QueryAhead = self._query_ahead if message.ahead else self._query
            return query(message.prompts, message.model)
        if self._typed_query is None:
            raise CallError(FailureKind.INVALID, "schema= cannot be used here")
        return self._typed_query(message.prompts, message.model, message.response_schema)


def _reply_answer(answer: Answer | None) -> _ReplyAnswer:
    if answer is None:
        return {"unmade": True}
    if answer.failure is not None:
        return {"failure": f"{answer.failure.kind}: {answer.failure.message}"}
    text = answer.text or ""
    size = len(encoded(text))
    if size > _MAX_ANSWER_BYTES:
        return {
            "failure": f"the answer has {size:,} bytes, and at most {_MAX_ANSWER_BYTES:,} can be handed on"
        }
    return {"text": text, "truncated": True} if answer.truncated else {"text": text}


def _parts(answers: list[_ReplyAnswer]) -> list[tuple[int, list[_ReplyAnswer]]]:
    """The answers in groups that each fit into one frame, with the index of each group's first answer."""
    parts: list[tuple[int, list[_ReplyAnswer]]] = [(0, [])]
    size = 0
    for at, answer in enumerate(answers):
        length = len(encoded(answer))
        if parts[-1][1] and size + length > CHUNK_BYTES:
            parts.append((at, []))
            size = 0
        parts[-1][1].append(answer)
        size += length
    return parts
