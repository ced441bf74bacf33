"""The REPL: one namespace that lives as long as the process, and the cells that run in it.

The namespace is the dict of a module ``__main__``, so that pickles and dataclasses find the classes in it.
The names that belong to the REPL are restored after every block, whatever the block did; only ``answer``
stays what the model assigned to it.
"""

import builtins
import contextlib
import mmap
import signal
import sys
import types
from collections.abc import Callable, Sized
from typing import Any, NoReturn

from . import answers, cells
from .calls import CallFunctions, LLMQueryError
from .child_calls import ChildFunctions
from .confine import set_handler
from .context import Loaded
from .frames import MAX_LINE_CHARS, MAX_NAME_CHARS
from .loop_plans import HOOK
from .output import Recorder, Stream, clip

_RESERVE_BYTES = 16 << 20


class _Plain(str):
    """A text that is shown without quotes if it is the last expression of a block."""

    def __repr__(self) -> str:
        return str(self)


class CellRunner:
    """Runs the cells of one job, in the main thread."""

    def __init__(
        self,
        loaded: Loaded,
        calls: CallFunctions,
        max_output_chars: int,
        tools: dict[str, Any],
        children: CallFunctions | ChildFunctions | None = None,
    ) -> None:
        """``children`` serves ``rlm_query``; by default it is a plain call."""
        rlm = children or calls
        self._recorder = Recorder()
        self._streams = (Stream(self._recorder, "<stdout>"), Stream(self._recorder, "<stderr>"))
        self._max_output_chars = max_output_chars
        self._box = answers.AnswerBox()
        self._history: list[dict[str, str | None]] = []
        self._final: answers.Final | None = None
        self._partial: str | None = None
        self._sent_partial: str | None = None
        self._interruptible = False
        self._reserve: mmap.mmap | None = _reserved()
        self._module = types.ModuleType("__main__")
        self._namespace = self._module.__dict__
        self._context = dict(loaded.variables)
        self._added = loaded.added
        self._queries: list[dict[str, str | None]] = []
        self._calls = calls
        calls.plans.namespace = self._namespace
        setattr(builtins, HOOK, calls.plans.loop)
        self._own: dict[str, Any] = {
            **self._context,
            **tools,
            **self._functions(),
            "llm_query": calls.llm_query,
            "llm_query_batched": calls.llm_query_batched,
            "rlm_query": rlm.rlm_query,
            "rlm_query_batched": rlm.rlm_query_batched,
            "LLMQueryError": LLMQueryError,
            "__builtins__": builtins,
            "__name__": "__main__",
        }
        self._reinstall()

    def run(self, cell: int, code: str) -> dict[str, object]:
        """Run one block; return the frame that reports its result to the host."""
        self._final = self._partial = None
        self._calls.plans.reset()
        error = self._run_guarded(lambda: self._execute(cell, code))
        answer_error = self._run_guarded(self._read_answer)
        error = error or answer_error
        for stream in self._streams:
            stream.buffer.finish()
        output = self._recorder.take()
        self._history.append({"code": code, "output": output.joined(), "error": error})
        self._reinstall()
        changed = self._partial != self._sent_partial
        self._sent_partial = self._partial or self._sent_partial
        return {
            "op": "done",
            "cell": cell,
            "output": clip(output, self._max_output_chars)._asdict(),
            "error": error,
            "final": self._final,
            "partial": self._partial if changed else None,
            "names": self._names(),
            "unused": self._calls.unused,
        }

    def resolve(self, path: str) -> dict[str, object]:
        """Look up a variable or a simple path as an answer; return the frame for the host."""
        self._final = None
        found = False

        def look() -> None:
            nonlocal found
            value = answers.follow(path, self._namespace)
            found = True
            if value is not None:
                self._final = answers.final(self._content(value), "FINAL_VAR")

        self._run_guarded(look)
        return {"op": "resolved", "found": found, "final": self._final, "names": self._names()}

    def begin(self, added: int, ended: dict[str, str | None] | None) -> dict[str, object]:
        """Begin the next query of a session, after the one that ``ended``; return the frame for the host.

        The model's variables stay. ``answer`` is fresh, and ``added`` contexts are visible from now on. What
        an earlier query issued ahead in vain was its own: it answers no call of this one.
        """
        self._calls.forget_unused()
        if ended is not None:
            self._queries.append(ended)
        self._context.update(list(self._added.items())[:added])
        self._own |= {**self._context, "session_history": list(self._queries)}
        self._box = answers.AnswerBox()
        self._final = self._partial = self._sent_partial = None
        self._reinstall()
        variables = answers.live(self._namespace, self._own_names())
        return {"op": "begun", "variables": [_line(*pair)[:MAX_LINE_CHARS] for pair in variables.items()]}

    def _execute(self, cell: int, code: str) -> None:
        value = cells.run(code, f"<cell {cell}>", self._namespace)
        if value is not None:
            sys.stdout.write(repr(value) + "\n")

    def _read_answer(self) -> None:
        final, self._partial = self._box.look(self._namespace.get("answer", answers.DELETED))
        self._final = self._final or final

    def _run_guarded(self, action: Callable[[], None]) -> str | None:
        """Run an action that may run model-written code; return its error as text, None if it had none."""
        try:
            try:
                self._interruptible = True
                action()
            finally:
                self._interruptible = False
        except answers.AnswerGiven:
            return None
        except MemoryError as error:
            self._reserve = None  # frees the memory that describing the error takes
            return cells.describe(error)
        except SystemExit as error:
            return f"{cells.describe(error)}\nThe REPL goes on: hand in the answer with FINAL(...) to end."
        except BaseException as error:  # noqa: BLE001  # whatever model-written code raises is an observation
            return cells.describe(error)
        return None

    def _interrupt(self, signal_number: int, frame: types.FrameType | None) -> None:
        if self._interruptible:
            raise KeyboardInterrupt

    def _reinstall(self) -> None:
        self._namespace.update(self._own)
        if not self._box.rebound:
            self._namespace["answer"] = self._box.current
        self._namespace["history"] = list(self._history)
        sys.modules["__main__"] = self._module
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc, assignment]
        set_handler(signal.SIGINT, self._interrupt)
        if self._reserve is None:
            with contextlib.suppress(MemoryError, OSError):  # still full; the next block may free some
                bytes(3 * _RESERVE_BYTES)  # fails if the reserve would leave that block no room to run in
                self._reserve = _reserved()

    def _names(self) -> list[str]:
        return [name[:MAX_NAME_CHARS] for name in answers.live(self._namespace, self._own_names())]

    def _own_names(self) -> set[str]:
        return {*self._own, "history", *(() if self._box.rebound else ("answer",))}

    def _content(self, value: Any) -> Any:
        """``value``, or its content if it is the dict ``answer``."""
        return value.get("content") if value is self._box.current else value

    def _hand_in(self, value: Any, by: str) -> NoReturn:
        if self._final is None:
            self._final = answers.final(self._content(value), by)
        raise answers.AnswerGiven

    def _functions(self) -> dict[str, Callable[..., Any]]:
        """The functions of the REPL itself, under the names that the model sees in tracebacks."""

        def FINAL(value: Any) -> NoReturn:  # noqa: N802
            """Hand in ``value`` as the answer and end the block."""
            self._hand_in(value, "FINAL")

        def FINAL_VAR(name: Any) -> NoReturn:  # noqa: N802
            """Hand in the value of the variable called ``name`` and end the block."""
            self._hand_in(self._variable(name), "FINAL_VAR")

        def SHOW_VARS() -> str:  # noqa: N802
            """The live variables with their types and sizes, one a line."""
            return _Plain("\n".join(_line(name, value) for name, value in self._visible_variables().items()))

        def leave(code: object = None) -> NoReturn:
            raise SystemExit(code)

        return {"FINAL": FINAL, "FINAL_VAR": FINAL_VAR, "SHOW_VARS": SHOW_VARS, "exit": leave, "quit": leave}

    def _variable(self, name: Any) -> Any:
        if not isinstance(name, str):
            return name
        try:
            return answers.follow(name, self._namespace)
        except answers.NotAVariable as error:
            if not answers.is_path(name):
                return name  # the value itself was passed, not its name
            live = ", ".join(self._names()) or "none"
            raise NameError(
                f"FINAL_VAR: {error}. Live variables: {live}. To hand in a text, use FINAL(text)."
            ) from None

    def _visible_variables(self) -> dict[str, object]:
        variables = answers.live(self._namespace, self._own_names())
        return {**self._context, **variables}


def _reserved() -> mmap.mmap:
    """Memory that is never written to, and so takes none of the machine's until it is given back."""
    return mmap.mmap(-1, _RESERVE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _line(name: str, value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, str):
        return f"{name}: {kind}, {len(value):,} characters"
    if isinstance(value, Sized) and not isinstance(value, type):
        return f"{name}: {kind}, {len(value):,} items"
    return f"{name}: {kind}"
