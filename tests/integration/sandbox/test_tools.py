"""Tools in a real REPL: how they look, what they return and raise, and what a hostile process may not do."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.errors import Cancelled
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.messages import read_arguments
from rlm_dist.sandbox.process import PlainStart
from tests.integration.sandbox.test_hostile import READY
from tests.support.host_tools import PlainTools, SlowTools
from tests.support.sandboxes import LIMITS, echo, forks, run_until_lost, shown, write_context
from tests.support.waiting import wait_until


def sandbox(tmp_path: Path, tools: object, limits: SandboxLimits = LIMITS) -> Sandbox:
    context = write_context(tmp_path / "context", "str", ["hello"])
    return Sandbox(context_path=context, query=echo, limits=limits, start=forks(), tools=tools)  # type: ignore[arg-type]


def fake(tmp_path: Path, script: str, tools: object, code_timeout_s: float = 20.0) -> Sandbox:
    """A sandbox whose process runs ``script`` instead of the REPL."""
    child = tmp_path / "fake.py"
    child.write_text(READY + script)
    context = write_context(tmp_path / "context", "str", ["hello"])
    limits = SandboxLimits(code_timeout_s=code_timeout_s)
    return Sandbox(
        context_path=context,
        query=echo,
        limits=limits,
        start=PlainStart(child),
        tools=tools,  # type: ignore[arg-type]
    )


@pytest.fixture
def tools() -> PlainTools:
    return PlainTools()


@pytest.fixture
def repl(tmp_path: Path, tools: PlainTools) -> Iterator[Sandbox]:
    with sandbox(tmp_path, tools) as running:
        yield running


def test_a_tool_is_a_function_with_signature_and_docstring(repl: Sandbox) -> None:
    assert shown(repl, "lookup('a', limit=2)") == "['a0', 'a1']\n"
    assert shown(repl, "lookup(key='b')[0]") == "'b0'\n"
    assert shown(repl, "import inspect; print(lookup.__name__, inspect.signature(lookup))") == (
        "lookup (key: str, limit: int = 3) -> list[str]\n"
    )
    assert "Look a key up in the catalogue." in shown(repl, "print(lookup.__doc__)")
    assert shown(repl, "SHOW_VARS()").startswith("context: ")


def test_a_tool_that_code_overwrites_is_put_back(repl: Sandbox) -> None:
    shown(repl, "lookup = ToolError = 5")
    assert shown(repl, "lookup('a', 1)") == "['a0']\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("lookup()", "TypeError: lookup() missing a required argument: 'key'"),
        ("lookup('a', 'many')", "ValueError: lookup() limit: "),
        ("lookup({1})", "TypeError: the arguments of lookup must be JSON values"),
        ("lookup(float('nan'))", "TypeError: the arguments of lookup must be JSON values"),
        ("lookup('x' * 2_000_000)", "ValueError: the arguments of lookup have 2,000,0"),
        ("v = []\nfor _ in range(60): v = [v]\nlookup(v)", "ValueError: the arguments must be JSON values"),
        ("v = []\nv.append(v)\nlookup(v)", "TypeError: the arguments of lookup must be JSON values"),
        ("fails('gone')", "ToolError: KeyError: 'gone'"),
    ],
)
def test_errors_are_raised_at_the_line_that_called(repl: Sandbox, code: str, said: str) -> None:
    error = repl.run(f"# a first line\n{code}").error or ""
    assert error.splitlines()[-1].startswith(said)
    assert 'File "<cell' in error
    assert "tools.py" not in error


def test_an_error_can_be_caught(repl: Sandbox) -> None:
    assert (
        shown(repl, "try: fails('gone')\nexcept ToolError as e: print('caught', e)")
        == "caught KeyError: 'gone'\n"
    )


def test_calls_from_threads_each_get_their_own_result(repl: Sandbox) -> None:
    code = "from concurrent.futures import ThreadPoolExecutor as P\n"
    code += "with P(16) as p: found = list(p.map(lambda n: lookup(str(n), 1)[0], range(200)))\n"
    assert shown(repl, code + "found == [f'{n}0' for n in range(200)]") == "True\n"


def test_a_job_without_tools_has_no_new_name(tmp_path: Path) -> None:
    with sandbox(tmp_path, None) as repl:
        assert "NameError" in (repl.run("ToolError").error or "")


def test_the_clock_stands_still_while_a_tool_runs(tmp_path: Path) -> None:
    """The block's own time limit would end it, if it counted the time in the tool."""
    slow = SlowTools()
    with sandbox(tmp_path, slow, SandboxLimits(code_timeout_s=0.5)) as repl:

        def let_go_later() -> None:
            slow.running.wait(30)
            wait_until(lambda: repl._session is not None and repl._session.total_s > 1)
            slow.go.set()

        threading.Thread(target=let_go_later).start()
        assert repl.run("lookup('a')").error is None


def test_an_abort_ends_the_cell_while_a_tool_runs(tmp_path: Path) -> None:
    slow = SlowTools()
    with sandbox(tmp_path, slow) as repl:

        def stop() -> None:
            slow.running.wait(30)
            repl.abort(Cancelled("j"))

        threading.Thread(target=stop).start()
        with pytest.raises(Cancelled):
            repl.run("lookup('a')")
        slow.go.set()


@pytest.mark.parametrize(
    "attack",
    [
        "send(op='tool', id=1, name='lookup')",
        "send(op='tool', id='1', name='lookup', arguments='{}')",
        "send(op='tool', id=-1, name='lookup', arguments='{}')",
        "send(op='tool', id=1, name=5, arguments='{}')",
        "send(op='tool', id=1, name='x' * 201, arguments='{}')",
        "send(op='tool', id=1, name='lookup', arguments={'args': [], 'kwargs': {}})",
        "send(op='tool', id=1, name='lookup', arguments='{}', more=1)",
        "send(op='tool', id=1, name='lookup', arguments='x' * (1 << 20) + 'x')",
        "send(op='tool', id=1, name='waits', arguments='{}');" * 2,
    ],
)
def test_a_frame_that_is_not_valid_ends_the_process(tmp_path: Path, attack: str) -> None:
    slow = SlowTools()
    with fake(tmp_path, attack + "\ntime.sleep(60)", slow) as repl:
        assert repl.run("x = 1").state_lost
        slow.go.set()


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            "",
            "null",
            "[]",
            "{}",
            "{",
            "5",
            '{"args": [], "kwargs": {}, "more": 1}',
            '{"args": {}, "kwargs": {}}',
        ),
        *('{"args": [NaN], "kwargs": {}}', '{"args": [' + "[" * 60 + "]" * 60 + '], "kwargs": {}}'),
        *(
            '{"args": ["\\ud800"], "kwargs": {}}',
            "[" * 100_000,
            '{"args": [1' + "0" * 9999 + '], "kwargs": {}}',
        ),
    ],
)
def test_arguments_of_a_wrong_shape_are_refused(arguments: str) -> None:
    with pytest.raises(ValueError, match="must be JSON values"):
        read_arguments(arguments)


def test_a_tool_outside_the_list_of_the_job_is_refused(tmp_path: Path, tools: PlainTools) -> None:
    script = "send(op='tool', id=1, name='system', arguments='{}')\nerror = read()['failure']\n"
    script += (
        "done(output={'head': error['type'] + error['message'], 'tail': '', 'omitted': 0})\ntime.sleep(60)"
    )
    with fake(tmp_path, script, tools) as repl:
        assert shown(repl, "1") == "ToolErrorno tool system"
    with fake(tmp_path, script, None) as repl:
        assert shown(repl, "1") == "ToolErrorthis job has no tools"


@pytest.mark.parametrize(("size", "most"), [(2, 1024), (1_000_000, 4)])
def test_a_flood_of_calls_is_held_back(tmp_path: Path, size: int, most: int) -> None:
    """By the number of open calls, or by the memory that their arguments may take."""
    slow = SlowTools()
    script = (
        f"n = 0\nwhile True:\n    n += 1\n    send(op='tool', id=n, name='waits', arguments='x' * {size})"
    )
    repl = fake(tmp_path, script, slow)
    repl.start()
    run = run_until_lost(repl)
    session = repl._session
    assert session is not None
    wait_until(lambda: len(session._open) == most)
    assert session._admitted(size * 64) is None
    repl.close()
    run.join()
    slow.go.set()
