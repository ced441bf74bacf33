"""``await`` at the top level of a block."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.schema import FinalValue
from tests.support.sandboxes import LIMITS, echo, forks, shown, write_context

SETUP = """\
import asyncio
async def double(n):
    await asyncio.sleep(0)
    return 2 * n
async def ask(prompt):
    return await asyncio.to_thread(llm_query, prompt)
class Numbers:
    def __init__(self): self.left = 2
    def __aiter__(self): return self
    async def __anext__(self):
        self.left -= 1
        if self.left < 0: raise StopAsyncIteration
        return self.left
    async def __aenter__(self): return 'in'
    async def __aexit__(self, *error): self.left = 'out'
"""


def start(folder: Path, code_timeout_s: float = LIMITS.code_timeout_s) -> Sandbox:
    context = write_context(folder / "context", "str", ["hello"])
    limits = SandboxLimits(code_timeout_s=code_timeout_s)
    return Sandbox(context_path=context, query=echo, limits=limits, start=forks())


@pytest.fixture
def repl(tmp_path: Path) -> Iterator[Sandbox]:
    """A REPL with some asynchronous functions."""
    with start(tmp_path) as sandbox:
        assert sandbox.run(SETUP).error is None
        yield sandbox


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("await double(2)", "4\n"),
        ("x = await double(3)\nx + 1", "7\n"),
        ("x = 1\nawait double(x)\nprint('end')", "end\n"),
        ("got = []\nasync for n in Numbers():\n    got.append(n)\ngot", "[1, 0]\n"),
        ("n = Numbers()\nasync with n as word:\n    print(word)\nn.left", "in\n'out'\n"),
        ("[await double(n) for n in range(3)]", "[0, 2, 4]\n"),
        ("[n async for n in Numbers()]", "[1, 0]\n"),
        ("await asyncio.gather(*[ask(c) for c in 'ab'])", "['None:a', 'None:b']\n"),
        ("await double(1)\nllm_query('q')", "'None:q'\n"),
        ("task = asyncio.create_task(double(5))\nawait task", "10\n"),
        ("asyncio.run(double(4))", "8\n"),
        ("await asyncio.sleep(0)", ""),
        ("if True:\n    y = await double(1)\ny", "2\n"),
    ],
)
def test_a_block_may_await(repl: Sandbox, code: str, output: str) -> None:
    assert shown(repl, code) == output
    assert shown(repl, "asyncio.run(double(8))") == "16\n"


def test_variables_of_a_block_that_awaits_stay(repl: Sandbox) -> None:
    shown(repl, "n = await double(2)\nn += 1\ndef f():\n    return n")
    assert shown(repl, "f(), [n + i for i in range(2)]") == "(5, [5, 6])\n"


def test_an_answer_and_errors_come_out_of_a_block_that_awaits(repl: Sandbox) -> None:
    assert repl.run("FINAL(await double(21))\nprint('never')").final == FinalValue("42", 42, "FINAL")
    assert repl.run("answer.update(content=await double(1), ready=True)").final == FinalValue(
        "2", 2, "answer"
    )
    result = repl.run("x = await double(1)\n1 / 0")
    assert result.error is not None
    assert result.error.startswith('Traceback (most recent call last):\n  File "<cell')
    assert result.error.endswith("ZeroDivisionError: division by zero")
    assert "asyncio" not in result.error
    assert shown(repl, "x") == "2\n"
    failed = repl.run("await ask(5)")
    assert failed.error is not None
    assert "TypeError: prompt must be a str" in failed.error
    assert "SyntaxError" in (repl.run("def f():\n    await double(1)").error or "")


@pytest.mark.parametrize("code", ["await asyncio.sleep(3600)", "while True:\n    await asyncio.sleep(0)"])
def test_a_block_that_awaits_for_too_long_is_interrupted_and_its_variables_stay(
    tmp_path: Path, code: str
) -> None:
    with start(tmp_path, code_timeout_s=1) as repl:
        shown(repl, "import asyncio\nkept = 3")
        result = repl.run(code)
        assert result.error is not None
        assert "the block ran for more than 1 s. Its variables are kept." in result.error
        assert shown(repl, "kept, await asyncio.sleep(0, 4)") == "(3, 4)\n"


def test_a_block_that_swallows_its_cancellation_is_stopped(tmp_path: Path) -> None:
    code = (
        "async def stay():\n    while True:\n        try:\n            await asyncio.sleep(3600)\n"
        "        except BaseException:\n            pass\nawait stay()"
    )
    with start(tmp_path, code_timeout_s=1) as repl:
        shown(repl, "import asyncio")
        assert "the block ran for more than 1 s" in (repl.run(code).error or "")
        assert shown(repl, "await asyncio.sleep(0, 4)") == "4\n"
