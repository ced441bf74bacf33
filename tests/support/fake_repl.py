"""A REPL in this process and a scripted root model, for tests of the engine."""

import ast
import contextlib
import io
import json
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from rlm_dist.engine import loop as engine
from rlm_dist.engine.answer_checks import Review
from rlm_dist.engine.compaction import RootWindow
from rlm_dist.engine.journal import BudgetHint, Journal
from rlm_dist.engine.prompts.families import PromptTexts
from rlm_dist.errors import CallError
from rlm_dist.schema import (
    CellResult,
    Clipped,
    Completion,
    ContextInfo,
    ContextRef,
    FinalValue,
    JobSpec,
    Message,
    Outcome,
    Resolved,
    Usage,
)
from rlm_dist.schema.events import Event


class _Done(BaseException):
    pass


class FakeRepl:
    """Runs code in a dict; code that calls ``lose()`` acts as a process that died."""

    def __init__(self, context: Any = "some text", **names: Any) -> None:
        self._context = context
        self._names = names
        self.ran: list[str] = []
        self.restarts = 0
        self._begin()

    def _begin(self) -> None:
        self.final: FinalValue | None = None
        self.lost = False
        self.space: dict[str, Any] = {
            "context": self._context,
            "FINAL": lambda value: self._take(value, "FINAL"),
            "FINAL_VAR": lambda name: self._take(self.space[name], "FINAL_VAR"),
            "answer": {"content": "", "ready": False},
            "lose": self._lose,
            **self._names,
        }

    def _take(self, value: Any, by: Any) -> None:
        if value is None:
            raise ValueError("None is no answer")
        self.final = _final(value, by)
        raise _Done

    def _lose(self) -> None:
        self.lost = True
        raise _Done

    def run(self, code: str, began_ns: int, turn: int = 0, /) -> CellResult:
        self.ran.append(code)
        self.space["began_ns"] = began_ns
        self.final, self.lost, error = None, False, None
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                exec(compile(code, "<cell>", "exec"), self.space)  # noqa: S102
            except _Done:
                pass
            except Exception:  # noqa: BLE001
                error = traceback.format_exc()
        box = self.space["answer"]
        box = box if isinstance(box, dict) else {"content": box}
        if self.final is None and box.get("ready"):
            self.final = _final(box["content"], "answer")
        return CellResult(
            output=Clipped(out.getvalue()),
            error="the process ended" if self.lost else error,
            final=self.final,
            partial=str(box["content"]) if box.get("content") else None,
            state_lost=self.lost,
        )

    def resolve(self, path: str, /) -> Resolved:
        try:
            code = compile(ast.parse(path, mode="eval"), "<path>", "eval")
            value = eval(code, {"__builtins__": {}}, self.space)  # noqa: S307
        except Exception:  # noqa: BLE001
            mine = [name for name in self.space if name not in ("context", "lose") and name.islower()]
            return Resolved(found=False, names=tuple(mine))
        return Resolved(found=True, final=None if value is None else _final(value, "FINAL_VAR"))

    def restart(self) -> None:
        self.restarts += 1
        self._begin()


def _final(value: Any, by: Any) -> FinalValue:
    try:
        plain = None if isinstance(value, str) else json.loads(json.dumps(value))
    except (TypeError, ValueError):
        plain = None
    return FinalValue(str(value), plain, by)


Step = str | Completion | Exception


class Script:
    """A root model that gives these replies in turn, and fails on an unexpected request."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.chats: list[list[Message]] = []
        self.refused = 0
        self.check: Callable[[Sequence[Message]], None] | None = None

    def __call__(self, messages: Sequence[Message]) -> Completion:
        if self.check is not None:
            try:
                self.check(messages)
            except CallError:
                self.refused += 1
                raise
        self.chats.append(list(messages))
        assert self.steps, f"the model was called once more than expected, with: {messages[-1].content}"
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Completion) else reply(step)

    def last_message(self, ask: int = -1) -> str:
        """The last message of a request."""
        return self.chats[ask][-1].content


def reply(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(
        text=text, usage=Usage(input_tokens=1, output_tokens=1), finish_reason=finish_reason, model="m"
    )


def spec(query: str = "How many?", *, info: ContextInfo | None = None, **fields: Any) -> JobSpec:
    return JobSpec(
        id="j1",
        custom_id="q1",
        query=query,
        context=ContextRef(
            sha256="0" * 64, size_bytes=1, info=info or ContextInfo(kind="str", chars=9, items=1)
        ),
        **fields,
    )


NO_WINDOW = RootWindow()


class Run:
    """One run of the engine over a script; every step of the script must be used."""

    def __init__(
        self,
        *steps: Step,
        repl: Any = None,
        journal: Sequence[str] = (),
        budget: Callable[[int], BudgetHint] = lambda chars: BudgetHint(),
        append: Callable[[str], None] = lambda entry: None,
        all_used: bool = True,
        review: Review | None = None,
        window: RootWindow = NO_WINDOW,
        texts: PromptTexts | None = None,
        check: Callable[[Sequence[Message]], None] | None = None,
        tools_text: str = "",
        **fields: Any,
    ) -> None:
        self.script = Script(*steps)
        self.script.check = check
        self.window = window
        self.repl = FakeRepl() if repl is None else repl
        self.events: list[Event] = []
        self.written: list[str] = []

        def write(entry: str) -> None:
            append(entry)
            self.written.append(entry)

        self.outcome: Outcome = engine.run(
            spec(**fields),
            complete=self.script,
            repl=self.repl,
            journal=Journal(journal, write),
            emit=self.events.append,
            budget=budget,
            review=review,
            window=window,
            texts=texts,
            tools=tools_text,
        )
        assert not (all_used and self.script.steps), f"unused replies: {self.script.steps}"

    @property
    def answer(self) -> str | None:
        return self.outcome.answer

    def marks(self) -> list[str]:
        return [event.kind for event in self.events if event.event == "marked"]
