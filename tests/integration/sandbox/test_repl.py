"""The REPL as a root model sees it: state, what is shown, errors, and how an answer is handed in.

The numbers are those of the traps in the protocol.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.schema import FinalValue
from tests.support.sandboxes import LIMITS, echo, forks, peak_bytes, process_of, shown, write_context


@pytest.fixture
def repl(tmp_path: Path) -> Iterator[Sandbox]:
    """A started REPL whose context is "hello"."""
    context = write_context(tmp_path / "context", "str", ["hello"])
    with Sandbox(context_path=context, query=echo, limits=LIMITS, start=forks()) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One REPL for tests that leave nothing behind which another test would see."""
    context = write_context(tmp_path_factory.mktemp("repl") / "context", "str", ["hello"])
    with Sandbox(context_path=context, query=echo, limits=LIMITS, start=forks()) as sandbox:
        yield sandbox


# What a block shows


def test_the_last_expression_is_shown_as_a_repl_shows_it(repl: Sandbox) -> None:
    assert shown(repl, "print('out')\ncontext") == "out\n'hello'\n"
    assert shown(repl, "None") == ""
    assert shown(repl, "x = 1") == ""
    assert shown(repl, "") == ""
    assert shown(repl, "# only a comment") == ""


def test_stdout_and_stderr_are_kept_in_order(repl: Sandbox) -> None:
    code = "import sys\nprint(1)\nprint(2, file=sys.stderr)\nsys.stdout.buffer.write(b'3\\n')\nprint(4)"
    assert shown(repl, code) == "1\n2\n3\n4\n"


def test_18_the_last_expression_is_evaluated_once_also_when_it_raises(repl: Sandbox) -> None:
    result = repl.run("n = 0\ndef f():\n    global n\n    n += 1\n    raise ValueError('no')\nf()")
    assert result.error is not None
    assert result.error.endswith("ValueError: no")
    assert shown(repl, "n") == "1\n"
    assert shown(repl, "def g():\n    global n\n    n += 1\n    return n\ng()") == "2\n"


# State


def test_15_functions_classes_and_comprehensions_see_the_variables_of_other_turns(repl: Sandbox) -> None:
    shown(repl, "n = 1\nitems = ['a', 'b']\nimport re")
    shown(
        repl,
        "n += 1\ndef out():\n    def inn():\n        return [i + str(n) for i in items]\n    return inn()",
    )
    assert shown(repl, "out()") == "['a2', 'b2']\n"
    assert shown(repl, "sorted(items, key=lambda i: -ord(i) * n)") == "['b', 'a']\n"
    assert shown(repl, "class A:\n    m = n\n    l = [x for x in items]\nA.m, A.l") == "(2, ['a', 'b'])\n"
    assert shown(repl, "any(re.match(i, 'b') for i in items)") == "True\n"


def test_15_dataclasses_pickle_and_enums_find_their_module(repl: Sandbox) -> None:
    shown(repl, "import dataclasses, pickle, enum\n@dataclasses.dataclass\nclass P:\n    x: 'int' = 3")
    assert shown(repl, "pickle.loads(pickle.dumps(P(4)))") == "P(x=4)\n"
    assert shown(repl, "class E(enum.Enum):\n    A = 1\n__name__, P.__module__, E.A") == (
        "('__main__', '__main__', <E.A: 1>)\n"
    )


def test_16_what_was_assigned_before_an_exception_stays(repl: Sandbox) -> None:
    result = repl.run("kept = llm_query('q')\n1 / 0\nnever = 1")
    assert result.error == (
        'Traceback (most recent call last):\n  File "<cell 1>", line 2, in <module>\n    1 / 0\n'
        "    ~~^~~\nZeroDivisionError: division by zero"
    )
    assert shown(repl, "kept, 'never' in globals()") == "('None:q', False)\n"


def test_17_del_and_private_names_hold_in_the_next_turn(repl: Sandbox) -> None:
    shown(repl, "x = 1\n_tmp = 1\n_ = 2")
    shown(repl, "del x")
    assert shown(repl, "_tmp, _, 'x' in globals()") == "(1, 2, False)\n"


def test_20_the_names_of_the_repl_are_put_back_also_after_a_failing_block(repl: Sandbox) -> None:
    result = repl.run(
        "llm_query = 3\ncontext = ''\nFINAL = SHOW_VARS = history = None\nprint(llm_query)\n1/0"
    )
    assert result.output.head == "3\n"
    assert shown(repl, "llm_query('a'), context, callable(FINAL), callable(SHOW_VARS), len(history)") == (
        "('None:a', 'hello', True, True, 1)\n"
    )


def test_redirected_or_closed_output_is_put_back(repl: Sandbox) -> None:
    repl.run("import sys, io\nsys.stdout = io.StringIO()\nsys.stderr.close()\nprint('lost')")
    assert shown(repl, "import contextlib\nprint('seen')") == "seen\n"
    assert (
        shown(repl, "with contextlib.redirect_stdout(io.StringIO()) as f: print('x')\nf.getvalue()")
        == "'x\\n'\n"
    )


def test_history_holds_earlier_cells_with_their_whole_output(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "str", [""])
    limits = SandboxLimits(max_output_chars=200)
    with Sandbox(context_path=context, query=echo, limits=limits, start=forks()) as repl:
        result = repl.run("print('x' * 5000)")
        assert (len(result.output.head), len(result.output.tail), result.output.omitted) == (100, 100, 4801)
        repl.run("1/0")
        assert shown(repl, "[(h['code'], len(h['output']), bool(h['error'])) for h in history]") == (
            "[(\"print('x' * 5000)\", 5001, False), ('1/0', 0, True)]\n"
        )


def test_show_vars_lists_variables_with_types_and_sizes(repl: Sandbox) -> None:
    shown(repl, "rows = [1, 2]\nimport re\ndef f(): pass")
    expected = "context: str, 5 characters\ncontext_0: str, 5 characters\nrows: list, 2 items\nf: function\n"
    assert shown(repl, "SHOW_VARS()") == expected
    assert shown(repl, "print(SHOW_VARS())") == expected


# Errors as observations


def test_a_syntax_error_shows_its_line_and_nothing_of_the_block_runs(repl: Sandbox) -> None:
    result = repl.run("print('no')\nx = = 2")
    assert result.output.head == ""
    assert result.error == '  File "<cell 1>", line 2\n    x = = 2\n        ^\nSyntaxError: invalid syntax'


@pytest.mark.parametrize("code", ["return 5", "x = '\0'", "(" * 1000, "await f()", "0777"])
def test_what_does_not_compile_is_an_observation(shared: Sandbox, code: str) -> None:
    result = shared.run(code)
    assert result.error is not None
    assert "rlm_dist" not in result.error
    assert shown(shared, "1") == "1\n"


def test_a_traceback_has_lines_of_earlier_cells_and_none_of_the_harness(repl: Sandbox) -> None:
    shown(repl, "def f(x):\n    return llm_query(x)")
    result = repl.run("try:\n    f(5)\nexcept TypeError as e:\n    raise KeyError('k') from e")
    assert result.error is not None
    assert '  File "<cell 1>", line 2, in f\n    return llm_query(x)\n' in result.error
    assert result.error.endswith("KeyError: 'k'")
    assert "inside" not in result.error
    assert "sandbox" not in result.error


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("import sys; sys.exit()", "SystemExit"),
        ("exit()", "SystemExit"),
        ("quit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("def f(): return f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("input()", "EOFError: EOF when reading a line"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
        ("raise ExceptionGroup('g', [ValueError(1)])", "ValueError: 1"),
    ],
)
def test_19_what_ends_other_programs_is_an_observation(shared: Sandbox, code: str, end: str) -> None:
    shown(shared, "x = 1")
    result = shared.run(code)
    assert result.error is not None
    assert end in result.error
    assert not result.state_lost
    assert shown(shared, "x") == "1\n"


def test_19_the_end_of_the_process_is_told_and_a_restart_gives_a_fresh_one(repl: Sandbox) -> None:
    shown(repl, "kept = 1")
    result = repl.run("print('before')\nimport os\nos._exit(3)")
    assert result.state_lost
    assert result.error == (
        "The Python process of the REPL ended: it exited with code 3. All variables (kept) are gone."
    )
    again = repl.run("1")
    assert again.state_lost
    repl.restart()
    assert shown(repl, "context, 'kept' in globals()") == "('hello', False)\n"


def test_a_segfault_is_told(repl: Sandbox) -> None:
    result = repl.run("import ctypes\nctypes.string_at(0)")
    assert result.state_lost
    assert result.error is not None
    assert "SIGSEGV" in result.error


def test_a_process_that_closes_its_connection_is_told(repl: Sandbox) -> None:
    result = repl.run("import os\nos.closerange(3, 100)")
    assert result.state_lost
    assert result.error is not None


# Handing in an answer


@pytest.mark.parametrize(
    ("code", "text", "value", "by"),
    [
        ("FINAL('done')\nprint('never')", "done", None, "FINAL"),
        ("FINAL({'a': [1, None]})", "{'a': [1, None]}", {"a": [1, None]}, "FINAL"),
        ("FINAL('')", "", None, "FINAL"),
        ("FINAL(0)", "0", 0, "FINAL"),
        ("FINAL(False)", "False", False, "FINAL"),
        ("FINAL([])", "[]", [], "FINAL"),
        ("FINAL({1, 2} - {2})", "{1}", None, "FINAL"),
        ("FINAL(float('nan'))", "nan", None, "FINAL"),
        ("x = 5\nFINAL_VAR('x')", "5", 5, "FINAL_VAR"),
        ("x = 5\nFINAL_VAR(x)", "5", 5, "FINAL_VAR"),
        ("x = 'long text, no name'\nFINAL_VAR(x)", "long text, no name", None, "FINAL_VAR"),
        ("d = {'k': ['v', 'w']}\nFINAL_VAR(\" d['k'][-1] \")", "w", None, "FINAL_VAR"),
        ("try:\n    FINAL('a')\nexcept Exception:\n    FINAL('b')", "a", None, "FINAL"),
        ("try:\n    FINAL('a')\nexcept:\n    print('swallowed')", "a", None, "FINAL"),
        ("def f():\n    FINAL('a')\nf()\nFINAL('b')", "a", None, "FINAL"),
        ("answer.update(content='b', ready=True)\nFINAL('a')", "a", None, "FINAL"),
        ("answer['content'] = 'a'\nanswer['ready'] = True", "a", None, "answer"),
        ("answer['ready'] = True\nanswer['content'] = 'a'", "a", None, "answer"),
        ("answer.update(content=[1], ready=True)", "[1]", [1], "answer"),
        ("answer = {'content': 'a', 'ready': True}", "a", None, "answer"),
        ("answer['content'] += 'a'\nanswer['ready'] = True\n1/0", "a", None, "answer"),
        ("answer['content'] = ''\nanswer['ready'] = True", "", None, "answer"),
        ("answer['content'] = 'a'\nFINAL_VAR('answer')", "a", None, "FINAL_VAR"),
        ("answer = 'a'\nFINAL_VAR('answer')", "a", None, "FINAL_VAR"),
    ],
)
def test_2_9_14_an_answer_is_taken(repl: Sandbox, code: str, text: str, value: object, by: str) -> None:
    result = repl.run(code)
    assert result.final == FinalValue(text, value, by)  # type: ignore[arg-type]  # the table holds plain str
    assert "never" not in result.output.head


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("FINAL(None)", "None is not an answer"),
        ("FINAL_VAR('x')", "there is no variable 'x'. Live variables: rows"),
        ("FINAL_VAR('rows[7]')", "IndexError"),
        ("answer['ready'] = True", 'answer["content"] holds nothing'),
        ("answer.update(content=None, ready=True)", 'answer["content"] holds nothing'),
        ("class A:\n    def __str__(self): raise ValueError('odd')\nFINAL(A())", "ValueError: odd"),
        ("FINAL('x' * 9_000_000)", "at most"),
        ("FINAL(n for n in rows)", "this is a generator and not a value"),
        ("FINAL(map(str, rows))", "this is a map and not a value"),
        ("FINAL(len)", "this is a builtin_function_or_method and not a value"),
        ("FINAL('a'.upper)", "and not a value; call it"),
        ("FINAL(str)", "this is a type and not a value"),
        ("import re\nFINAL(re)", "this is a module and not a value"),
        ("def f(): pass\nFINAL(f)", "this is a function and not a value"),
        ("async def f(): pass\nFINAL(f())", "this is a coroutine and not a value"),
    ],
)
def test_what_is_no_answer_is_said_back(repl: Sandbox, code: str, said: str) -> None:
    shown(repl, "rows = [1]")
    result = repl.run(code)
    assert result.final is None
    assert result.error is not None
    assert said in result.error
    assert shown(repl, "answer['ready']") == "False\n"


def test_9_a_partial_answer_is_reported_whatever_became_of_the_name(repl: Sandbox) -> None:
    assert repl.run("1").partial is None
    assert repl.run("answer['content'] = 'half'").partial == "half"
    assert repl.run("1/0").partial is None
    assert repl.run("answer = None").partial is None
    assert repl.run("answer = {'content': 'more'}").partial == "more"
    assert repl.run("answer['content'] = 'half'").partial == "half"
    assert repl.run("answer = ['rebound']").partial == "['rebound']"
    assert repl.run("answer = {'content': 'new'}").partial == "new"
    assert repl.run("answer.clear()").partial is None
    assert repl.run("answer['ready']").error is None


@pytest.mark.parametrize(
    ("code", "value", "text"),
    [
        ("answer = llm_query('q')", "'None:q'", "None:q"),
        ("answer = ['a', 'b']", "['a', 'b']", "['a', 'b']"),
        ("answer = {'total': 3}", "{'total': 3}", "{'total': 3}"),
        ("answer = 0", "0", "0"),
        ("answer = ''", "''", ""),
    ],
)
def test_9_a_variable_answer_of_the_models_own_stays(repl: Sandbox, code: str, value: str, text: str) -> None:
    result = repl.run(code)
    assert (result.final, result.partial) == (None, text or None)
    assert repl.run("1 / 0").partial is None
    assert shown(repl, "answer") == f"{value}\n"
    assert "answer: " in shown(repl, "SHOW_VARS()")
    found = repl.resolve("answer")
    assert found.final is not None
    assert (found.final.text, found.names) == (text, ("answer",))
    final = repl.run("FINAL_VAR('answer')").final
    assert final is not None
    assert final.text == text


def test_9_without_it_the_dict_answer_is_back_and_hands_in(repl: Sandbox) -> None:
    shown(repl, "answer = 'own'")
    assert repl.run("answer['ready'] = True").final is None
    shown(repl, "del answer")
    assert shown(repl, "answer") == "{'content': '', 'ready': False}\n"
    assert "answer" not in shown(repl, "SHOW_VARS()")
    shown(repl, "answer = 'own'")
    assert repl.run("answer = {'content': 'done', 'ready': True}").final == FinalValue("done", None, "answer")


def test_9_none_in_answer_stays_none_and_is_no_answer(repl: Sandbox) -> None:
    shown(repl, "answer = None")
    assert shown(repl, "answer is None") == "True\n"
    assert repl.resolve("answer").final is None


def test_an_answer_of_an_earlier_block_does_not_end_the_next(repl: Sandbox) -> None:
    assert repl.run("answer.update(content='a', ready=True)").final is not None
    assert repl.run("x = 1").final is None


# Looking up what a text FINAL names


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("x", "5", 5),
        (" x ", "5", 5),
        ('"x"', "5", 5),
        ("d['k']", "[1, 2]", [1, 2]),
        ("d['k'][-1]", "2", 2),
        ("o.real", "7", 7),
        ("answer", "so far", None),
        ("context", "hello", None),
    ],
)
def test_8_a_variable_or_simple_path_is_resolved(repl: Sandbox, path: str, text: str, value: object) -> None:
    shown(repl, "x = 5\nd = {'k': [1, 2]}\no = 7\nanswer['content'] = 'so far'")
    found = repl.resolve(path)
    assert found.found
    assert found.final == FinalValue(text, value, "FINAL_VAR")


@pytest.mark.parametrize(
    "path",
    ["y", "d['z']", "x.nope", "d[", "", "f()", "x + 1", "d[x]", "lambda: 1", "x" * 5000, "[" * 500, "bad.p"],
)
def test_8_an_unknown_name_gives_the_names_there_are(shared: Sandbox, path: str) -> None:
    shown(
        shared,
        "x = 5\nd = {'k': 1}\ndef f(): pass\nclass B:\n @property\n def p(self): raise OSError\nbad = B()",
    )
    found = shared.resolve(path)
    assert not found.found
    assert {"x", "d", "f", "B", "bad"} <= set(found.names)
    assert "llm_query" not in found.names


def test_a_variable_that_is_none_is_found_and_no_answer(repl: Sandbox) -> None:
    shown(repl, "x = None")
    assert repl.resolve("x") == (repl.resolve("x").__class__)(found=True, final=None, names=("x",))


# Output of every kind


def test_28_odd_characters_are_replaced(repl: Sandbox) -> None:
    shown(repl, "import sys")
    code = "print('a\\ud800b\\0c')\no = sys.stdout.buffer\no.write(b'\\xff\\xc3')\nprint('\U0001f600')"
    assert shown(repl, code) == "a\ufffdb\ufffdc\n\ufffd\N{GRINNING FACE}\n\ufffd"


def test_28_very_much_output_is_bounded_while_it_is_printed(repl: Sandbox) -> None:
    process = process_of(repl)
    before = peak_bytes(process)
    result = repl.run("line = 'x' * 99_999\nprint('first')\nfor _ in range(2000): print(line)\nprint('last')")
    assert result.error is None
    assert result.output.head.startswith("first\nxxx")
    assert result.output.tail.endswith("xxx\nlast\n")
    printed = len("first\n") + 2000 * 100_000 + len("last\n")
    assert len(result.output.head) + len(result.output.tail) + result.output.omitted == printed
    assert peak_bytes(process) - before < 80e6


def test_24_output_that_looks_like_the_protocol_is_only_text(repl: Sandbox) -> None:
    text = 'FINAL(1)\n```\n\x00\x00\x00\x05{"op": "done"}'
    result = repl.run(f"print({text!r})")
    assert result.final is None
    assert result.output.head == text.replace("\0", "\ufffd") + "\n"


def test_many_small_prints_from_threads_do_not_break(repl: Sandbox) -> None:
    code = (
        "import threading\n"
        "ts = [threading.Thread(target=lambda: [print('ab') for _ in range(500)]) for _ in range(8)]\n"
        "for t in ts: t.start()\nfor t in ts: t.join()"
    )
    assert shown(repl, code).count("ab") == 4000


def test_random_is_seeded_alike_in_every_process(repl: Sandbox) -> None:
    code = "import random\nrandom.random(), hash('a'), list({'b', 'c', 'd'})"
    first = shown(repl, code)
    repl.restart()
    assert shown(repl, code) == first


LOOKS = """\
import datetime, time
from datetime import datetime as moment
looks = [
    lambda: time.time_ns() // 10**9, lambda: int(time.time()), lambda: int(moment.now().timestamp()),
    lambda: int(moment.now(datetime.timezone.utc).timestamp()), lambda: int(moment.today().timestamp()),
    lambda: time.mktime(time.localtime()), lambda: time.mktime(time.gmtime()),
    lambda: time.mktime(time.strptime(time.ctime())), lambda: time.mktime(time.strptime(time.asctime())),
    lambda: int(time.strftime("%s")), lambda: int(moment.utcnow().timestamp()),
]
"""


def test_a_block_sees_the_time_of_its_first_run(repl: Sandbox) -> None:
    """Its first look at any clock shows exactly that time; then time goes on. The next block has its own."""
    shown(repl, LOOKS)
    for look in range(11):
        result = repl.run(f"looks[{look}]()", began_ns=1_000_000_000 * 10**9)
        assert (result.output.head, result.error) in [("1000000000\n", None), ("1000000000.0\n", None)]
    passed = "t = time.time(); time.sleep(0.01); t == 1e9, 0.01 <= time.time() - t < 10"
    assert repl.run(passed, began_ns=10**18).output.head == "(True, True)\n"
    assert repl.run("str(datetime.date.today())", began_ns=10**18).output.head == "'2001-09-09'\n"
    before_s = time.time()
    assert before_s - 1 < float(shown(repl, "time.time()")) < time.time() + 1
    assert shown(repl, "import pickle; type(pickle.loads(pickle.dumps(moment.now()))) is moment") == "True\n"


@pytest.mark.parametrize("character", ["a", "é", "\\U0001f600", "\\0"])
def test_a_draft_is_handed_on_up_to_a_mebibyte(repl: Sandbox, character: str) -> None:
    partial = repl.run(f"answer['content'] = '{character}' * 3_000_000").partial
    assert partial is not None
    assert (1 << 20) - 200 < len(partial.encode()) <= 1 << 20
    head, mark = partial.split("\n")
    assert mark == f"[... {3_000_000 - len(head):,} characters left out ...]"
    whole = repl.run("answer['content'] = 'b' * (1 << 20)").partial
    assert whole == "b" * (1 << 20)


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit('x' * 100_000)",
        "raise ValueError('x\\n' * 100_000)",
        "globals().update({'v' * 10_000 + str(i): i for i in range(300)})",
        "answer['content'] = list(range(10**6))\nanswer['ready'] = True",
        "FINAL({'a': ['x' * 50] * 100_000})",
        "answer['content'] = 'x' * 8_000_000\nprint('y' * 10**7)\n1 / 0",
        "llm_query('x', model='m' * 1000)",
        "llm_query([{'role': 'user', 'content': 'x'}] * 5000)",
        "llm_query_batched([[{'role': 'user', 'content': 'x'}] * 900] * 300)",
        "llm_query_batched(['[{,\\n' * 20_000] * 300)",
    ],
)
def test_an_honest_block_never_breaks_the_protocol(repl: Sandbox, code: str) -> None:
    result = repl.run(code)
    assert not result.state_lost, result.error
    assert len(result.error or "") <= 8000
    assert repl.run("1").output.head == "1\n"
