"""Runs a block of code with or without plans of its loops, over a host that answers at once."""

import builtins
import contextlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from rlm_dist.sandbox.inside import cells
from rlm_dist.sandbox.inside.calls import CallFunctions, LLMQueryError
from rlm_dist.sandbox.inside.loop_plans import HOOK


class Run(NamedTuple):
    """What a block did: its variables and output, its error with the line, and its calls.

    ``ids`` are the calls in the order in which they were issued, each with the number of its occurrence;
    ``frames`` has how many each frame brought.
    """

    variables: dict[str, str]
    output: str
    error: tuple[str, str, int] | None
    ids: list[str]
    frames: list[int]


def never(call: str) -> bool:
    """No call fails."""
    return False


class FakeHost:
    """Answers each call with its id, so that a call that gets another one's answer is noticed."""

    def __init__(self, fails: Callable[[str], bool], room: Callable[[int], int]) -> None:
        self.calls = CallFunctions(self._send)
        self.ids: list[str] = []
        self.frames: list[int] = []
        self._fails = fails
        self._room = room
        self._counts: Counter[str] = Counter()

    def _send(self, message: dict[str, Any]) -> None:
        prompts = message["prompts"]
        self.frames.append(len(prompts))
        room = max(1, self._room(len(prompts))) if message.get("ahead") else len(prompts)
        answers = [self._answer(prompt, message["model"]) for prompt in prompts[:room]]
        if "schema" in message:
            answers = [{name: json.dumps(text) for name, text in answer.items()} for answer in answers]
        answers += [{"unmade": True}] * (len(prompts) - room)
        self.calls.reply({"op": "reply", "id": message["id"], "at": 0, "answers": answers})

    def _answer(self, prompt: list[dict[str, str]], model: str | None) -> dict[str, Any]:
        content = f"{model}:{prompt[-1]['content']}" if model else prompt[-1]["content"]
        self._counts[content] += 1
        call = f"{content}#{self._counts[content]}"
        self.ids.append(call)
        return {"failure": f"no answer to {call}"} if self._fails(call) else {"text": f"<{call}>"}


def run(
    *blocks: str,
    planned: bool = True,
    fails: Callable[[str], bool] = never,
    room: Callable[[int], int] = lambda count: count,
    given: dict[str, Any] | None = None,
) -> Run:
    """Run the blocks one after another in one namespace; ``error`` is that of the last one.

    ``room(n)`` is how many of n calls that are asked ahead have room in the job's limits.
    """
    host = FakeHost(fails, room)
    namespace: dict[str, Any] = dict(given or {})
    host.calls.plans.namespace = namespace
    names = ("llm_query", "llm_query_batched", "rlm_query")
    own = {name: getattr(host.calls, name) for name in names}
    error = None
    output = io.StringIO()
    with _hook(host) if planned else mock.patch.object(cells, "plan_loops", lambda tree: tree):
        for at, code in enumerate(blocks):
            namespace.update(own, LLMQueryError=LLMQueryError, __name__="__main__")
            error = None
            with contextlib.redirect_stdout(output):
                try:
                    value = cells.run(code, f"<cell {at}>", namespace)
                    sys.stdout.write(f"{value!r}\n")
                except Exception as raised:  # noqa: BLE001  # the block's own
                    error = type(raised).__name__, str(raised), _line(raised, f"<cell {at}>")
    hidden = {*own, "LLMQueryError", "__builtins__", "__name__"}
    variables = {
        name: repr(value)
        for name, value in namespace.items()
        if name not in hidden and not callable(value) and " object at 0x" not in repr(value)
    }
    return Run(variables, output.getvalue(), error, host.ids, host.frames)


@contextlib.contextmanager
def _hook(host: FakeHost) -> Iterator[None]:
    with mock.patch.object(builtins, HOOK, host.calls.plans.loop, create=True):
        yield


def _line(error: BaseException, name: str) -> int:
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
