"""A very long reply is parsed in many short steps: the other jobs of the worker run in between.

A call of a C function holds the interpreter's lock to its end. Its time is compared with what one call of
``json.dumps`` takes for the same text, as endpoints' replies need that anyway.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from rlm_dist.engine.parsing import parse

CHARS = 2_000_000
TEXTS = {
    "prose": 'Some words of a long reply, with "quotes" and x = f(y).\n',
    "code": "x = [1, 2, 3]\ny = f(x)\n",
    "one line": "x",
    "one line of calls": "f(x, ",
}


def longest_c_call_s(act: Callable[[], object]) -> float:
    """The most CPU time, in seconds, of a call of a C function in ``act``, of those that call no Python."""
    began: list[float | None] = []
    longest = 0.0

    def note(_: Any, event: str, __: Any) -> None:
        nonlocal longest
        if event == "call":
            began[:] = [None] * len(began)
        elif event == "c_call":
            began.append(time.thread_time())
        elif event in ("c_return", "c_exception") and began:
            start = began.pop()
            if start is not None:
                longest = max(longest, time.thread_time() - start)

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return longest


@pytest.mark.parametrize("fenced", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_no_single_step_takes_long(name: str, fenced: bool) -> None:
    body = TEXTS[name] * (CHARS // len(TEXTS[name]))
    text = f"```repl\n{body}\n```" if fenced else f"{body}\n\n```repl\nFINAL(1)\n```"
    usual = min(longest_c_call_s(lambda: json.dumps(text)) for _ in range(3))
    # The rest of the machine can make any single call long, but hardly one of each of three runs.
    assert any(longest_c_call_s(lambda: parse(text)) < 8 * usual for _ in range(3))
    assert parse(text).blocks
