"""The host's side of the REPL: starts the process, limits a cell's time, and returns how a cell ended.

A process that does not end its cell in time gets up to three SIGINTs, half a second apart. If it obeys, it
keeps its variables; otherwise it is killed and its variables are gone. The cell's clock stands still while a
sub-call is open; a second, longer limit counts that time, too.
"""

import socket
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from rlm_dist.errors import LimitExceeded, SandboxError
from rlm_dist.sandbox.inside.exits import SERVER_DIED
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.messages import (
    Broken,
    CellDone,
    ChildMessage,
    ContextReady,
    HandedIn,
    QueryBegun,
    ResolvedPath,
)
from rlm_dist.sandbox.session import Query, QueryAhead, ReplProcess, ReplSession, TypedQuery
from rlm_dist.sandbox.tools import HostTools, NoTools
from rlm_dist.sandbox.uploads import Children
from rlm_dist.schema import CellResult, FinalValue, Resolved
from rlm_dist.schema.cells import LostBy

__all__ = ["EndedQuery", "Query", "QueryAhead", "ReplStart", "Sandbox", "SandboxLimits", "TypedQuery"]

_START_S = 120.0
_RESOLVE_S = 10.0
_WALL_FACTOR = 20
_SIGNALS = 3
_SIGNAL_GAP_S = 0.5
_MAX_CODE_CHARS = 2_000_000
_MiB = 1 << 20
_ENDINGS: dict[str, LostBy] = {
    "out of memory": "memory",
    "memory ran out": "memory",
    "broke the frame protocol": "protocol",
    "did not read": "unread",
}


@dataclass(frozen=True)
class SandboxLimits:
    """What the REPL process may use; ``memory_bytes`` None: computed from the size of its context.

    A cell with its sub-calls may take 20 times ``code_timeout_s``, and ``outage_s`` more: for so long a
    sub-call may wait for an endpoint that is away. The time in which a child job is open does not count.
    """

    code_timeout_s: float = 120.0
    outage_s: float = 0.0
    max_output_chars: int = 20_000
    memory_bytes: int | None = None
    cpu_s: int = 24 * 3600
    file_size_bytes: int = 16 * _MiB
    open_files: int = 128

    @property
    def wall_s(self) -> float:
        """The most seconds of a cell, its sub-calls included."""
        return _WALL_FACTOR * self.code_timeout_s + self.outage_s


class EndedQuery(NamedTuple):
    """A query of a session that has ended, with its answer if it has one."""

    query: str
    answer: str | None


class ReplStart(Protocol):
    """Starts REPL processes."""

    @property
    def level(self) -> Level: ...

    def launch(self, context_path: Path, memory_bytes: int) -> tuple[ReplProcess, socket.socket]: ...


class Sandbox:
    """The REPL of one job. ``run`` and ``resolve`` are called from one thread, the other methods from any.

    ``start`` is shared with other sandboxes; ``close`` leaves it open. Without ``query_ahead``,
    ``query`` also serves the calls that the code is about to ask for. Without ``typed_query`` the REPL's
    ``llm_query`` takes no ``schema``. ``children`` serves ``rlm_query``, else a plain sub-call.
    """

    def __init__(
        self,
        *,
        context_path: Path,
        query: Query,
        limits: SandboxLimits,
        start: ReplStart,
        query_ahead: QueryAhead | None = None,
        typed_query: TypedQuery | None = None,
        children: Children | None = None,
        tools: HostTools | None = None,
    ) -> None:
        self._tools: HostTools = tools or NoTools()
        self._context_path = context_path
        self._query = query
        self._query_ahead: QueryAhead = query_ahead or query
        self._typed_query = typed_query
        self._children = children
        self._limits = limits
        self._start = start
        self._lock = threading.Lock()
        self._session: ReplSession | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self._cell = 0
        self._names: tuple[str, ...] = ()
        self._partial: str | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def isolation(self) -> str:
        """How the model-written code is isolated."""
        return self._start.level.isolation

    def start(self) -> None:
        """Start the process and load the context; entering the sandbox as a context manager does the same.

        Raises:
            SandboxError: it cannot be started, was already started, or cannot load the context.
        """
        if self._session is not None:
            raise SandboxError("the REPL was already started")
        self._launch()

    def _launch(self) -> None:
        session, reply = self._open_session()
        if session.gone == SERVER_DIED:  # it died before it had started this REPL
            session, reply = self._open_session()
        if not isinstance(reply, ContextReady):
            session.end("it did not start")
            detail = reply.detail if isinstance(reply, Broken) else f"the REPL process: {session.gone}"
            raise SandboxError(detail)
        self._names, self._partial = (), None

    def _open_session(self) -> tuple[ReplSession, ChildMessage | None]:
        """Start a process; return its session and first message, None if it ended without one."""
        with self._lock:
            if self._closed:
                raise SandboxError("the REPL is closed")
            memory = self._limits.memory_bytes or _memory_for(self._context_path)
            process, channel = self._start.launch(self._context_path, memory)
            try:
                session = self._session = ReplSession(
                    process, channel, self._query, self._query_ahead, self._tools,
                    typed_query=self._typed_query, children=self._children,
                )  # fmt: skip
            except RuntimeError:
                process.kill()
                channel.close()
                raise SandboxError("no thread can be started for the REPL") from None
        limits = {
            "memory_bytes": memory,
            "cpu_s": self._limits.cpu_s,
            "file_size_bytes": self._limits.file_size_bytes,
            "open_files": self._limits.open_files,
        }
        session.order(
            {
                "op": "start",
                "limits": limits,
                "max_output_chars": self._limits.max_output_chars,
                "max_context_bytes": self._children.max_context_bytes if self._children else None,
                "tools": list(self._tools.specs),
            }
        )
        reply, _ = self._reply(session, _START_S, _START_S)
        self._raise_failure(session)
        return session, reply

    def restart(self) -> None:
        """Replace the process by a new one, which has the context and no other variable.

        Raises:
            SandboxError: it cannot be started, or the sandbox is closed.
        """
        old = self._session
        if old is not None:
            old.end("it was restarted")
            self._failure = self._failure or old.take_failure()
        self._launch()

    def run(self, code: str, began_ns: int | None = None) -> CellResult:
        """Run one code block; the result reports whatever the code does.

        ``began_ns`` is the Unix time that the block's first reading of the clock returns; None means now.

        Raises:
            RLMError: what ``query`` raised (a CallError if it is fatal) or what was passed to ``abort``. The
                process is ended, except after LimitExceeded, which leaves it for ``resolve``.
            SandboxError: the sandbox was not started, or was closed meanwhile.
        """
        session = self._require_session()
        self._raise_failure(session)
        if len(code) > _MAX_CODE_CHARS:
            return CellResult(
                error=f"The block has {len(code):,} characters; at most {_MAX_CODE_CHARS:,} are run."
            )
        self._cell += 1
        began, calls = time.monotonic(), session.calls
        failed, truncated = session.failed_calls, session.truncated_calls
        clock_ns = time.time_ns() if began_ns is None else began_ns
        session.order({"op": "run", "cell": self._cell, "code": code, "began_ns": clock_ns})
        reply, stopped = self._reply(session, self._limits.code_timeout_s, self._limits.wall_s)
        self._raise_failure(session)
        if isinstance(reply, CellDone) and reply.cell == self._cell:
            result = self._result_of(reply, stopped)
        else:
            if reply is not None:
                session.end("it broke the frame protocol")
            result = self._lost_result(session, stopped)
        return replace(
            result,
            calls=session.calls - calls,
            failed_calls=session.failed_calls - failed,
            truncated_calls=session.truncated_calls - truncated,
            seconds=time.monotonic() - began,
        )

    def resolve(self, path: str) -> Resolved:
        """Look up a variable or simple path; if the process is gone, nothing is found.

        Raises:
            RLMError, SandboxError: as ``run``.
        """
        session = self._require_session()
        self._raise_failure(session)
        session.order({"op": "resolve", "path": path})
        reply, _ = self._reply(session, _RESOLVE_S, _WALL_FACTOR * _RESOLVE_S)
        self._raise_failure(session)
        if not isinstance(reply, ResolvedPath):
            session.end("it did not answer")
            return Resolved(found=False)
        return Resolved(found=reply.found, final=_final(reply.final), names=reply.names)

    def begin(self, added: int, ended: EndedQuery | None) -> tuple[str, ...]:
        """Begin the next query of a session; return a line for each variable that the earlier ones left.

        ``added`` contexts of the context's file are visible from now on, ``ended`` is the query before.

        Raises:
            RLMError: as ``run``.
            SandboxError: as ``run``, or the process ended.
        """
        session = self._require_session()
        self._raise_failure(session)
        session.order({"op": "begin", "added": added, "ended": ended._asdict() if ended else None})
        reply, _ = self._reply(session, _RESOLVE_S, _WALL_FACTOR * _RESOLVE_S)
        self._raise_failure(session)
        if not isinstance(reply, QueryBegun):
            session.end("it did not answer")
            raise SandboxError(f"the next query cannot begin: {session.gone}")
        self._partial = None
        return reply.variables

    def abort(self, error: BaseException) -> None:
        """Stop the running cell, or prevent the next one from starting: ``run`` raises ``error``."""
        with self._lock:
            if self._session is None:
                self._failure = self._failure or error
            else:
                self._session.fail(error)

    def close(self) -> None:
        """End the process; a ``run`` in progress raises SandboxError."""
        with self._lock:
            self._closed = True
            session = self._session
        if session is not None:
            session.end("it was closed")

    def _require_session(self) -> ReplSession:
        if self._session is None or self._closed:
            raise SandboxError("the REPL is closed" if self._closed else "the REPL was not started")
        return self._session

    def _raise_failure(self, session: ReplSession) -> None:
        failure, self._failure = self._failure or session.take_failure(), None
        if failure is not None:
            raise failure
        if self._closed:
            raise SandboxError("the REPL is closed")

    def _reply(
        self, session: ReplSession, limit_s: float, wall_s: float
    ) -> tuple[ChildMessage | None, str | None]:
        """Wait for the reply to an order, and stop the child when its time is up.

        Return the reply, None if the child ended without one, and why it had to be interrupted, None if it
        had not.
        """
        signals, signal_at = 0, None
        stopped = None
        while True:
            message = session.wait(limit_s, signal_at)
            if message is not None or session.gone is not None:
                return message, stopped
            failure = session.take_failure()
            self._failure = self._failure or failure
            if failure is not None and not isinstance(failure, LimitExceeded):
                session.end("it was stopped")
                return None, None
            now = time.monotonic()
            if signal_at is None:
                over = _over(limit_s, session.counted_s, "")
                over = over or _over(wall_s, session.total_s, ", sub-calls included")
                if failure is not None or over is not None:
                    signal_at, stopped = now, over or "Stopped"
            if signal_at is None or now < signal_at:
                continue
            if signals == _SIGNALS:
                session.end("it did not react to being interrupted")
                return None, stopped
            session.process.interrupt()
            signals, signal_at = signals + 1, now + _SIGNAL_GAP_S

    def _result_of(self, reply: CellDone, stopped: str | None) -> CellResult:
        self._names = reply.names
        partial = (
            reply.partial if reply.partial != self._partial else None
        )  # a REPL may send it again and again
        self._partial = partial or self._partial
        error = reply.error
        if stopped is not None:
            notice = f"{stopped}. Its variables are kept."
            error = f"{notice}\n{error}" if error else notice
        return CellResult(
            output=reply.output.clipped(self._limits.max_output_chars),
            error=error,
            final=_final(reply.final),
            partial=partial,
            unused_calls=reply.unused,
        )

    def _lost_result(self, session: ReplSession, stopped: str | None) -> CellResult:
        if stopped is not None:
            reason = f"{stopped}, and {session.gone}."
        else:
            reason = f"The Python process of the REPL ended: {session.gone}."
        names = f" ({', '.join(self._names)})" if self._names else ""
        lost_by = "time" if stopped is not None else _lost_by(session.gone or "")
        error = f"{reason} All variables{names} are gone."
        return CellResult(error=error, state_lost=True, lost_by=lost_by)


def _lost_by(ending: str) -> LostBy:
    """What ended a process, by the text that its session or ``process.ending`` has for it."""
    return next((lost_by for words, lost_by in _ENDINGS.items() if words in ending), "ended")


def _memory_for(context_path: Path) -> int:
    try:
        size = context_path.stat().st_size
    except OSError as error:
        raise SandboxError(f"the context cannot be opened: {error}") from error
    return max(1024 * _MiB, 512 * _MiB + 12 * size)


def _over(limit_s: float, used_s: float, what: str) -> str | None:
    """The notice that a block's time is up; None if it is not."""
    return f"Stopped: the block ran for more than {limit_s:g} s{what}" if used_s >= limit_s else None


def _final(answer: HandedIn | None) -> FinalValue | None:
    return answer.value() if answer is not None else None
