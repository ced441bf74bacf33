"""Sub-calls from the REPL: what is accepted, how calls fail, threads, and what stops a cell."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from rlm_dist.errors import (
    CallError,
    Cancelled,
    FailureKind,
    LimitExceeded,
    RLMError,
    SandboxError,
    Superseded,
    Unreachable,
)
from rlm_dist.sandbox.host import Query, Sandbox, SandboxLimits
from rlm_dist.sandbox.process import PlainStart
from rlm_dist.schema import Answer, Message
from tests.support.sandboxes import LIMITS, echo, failing_on, forks, shown, write_context
from tests.support.waiting import wait_until

Prompts = Sequence[tuple[Message, ...]]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An encoded context."""
    return write_context(tmp_path / "context", "str", ["hello"])


@pytest.fixture
def repl(context: Path) -> Iterator[Sandbox]:
    """A started REPL over a sub model that echoes."""
    with Sandbox(context_path=context, query=echo, limits=LIMITS, start=forks()) as sandbox:
        yield sandbox


def over(context: Path, query: Query, code_timeout_s: float = 20.0) -> Sandbox:
    """A REPL over ``query``, not yet started."""
    return Sandbox(
        context_path=context, query=query, limits=SandboxLimits(code_timeout_s=code_timeout_s), start=forks()
    )


def test_an_answer_is_a_str_and_the_model_name_is_handed_on(repl: Sandbox) -> None:
    assert shown(repl, "llm_query('q'), llm_query('q', model='m'), llm_query('q', 'm')") == (
        "('None:q', 'm:q', 'm:q')\n"
    )
    assert shown(repl, "isinstance(llm_query('q'), str)") == "True\n"


def test_23_a_message_list_is_handed_on_as_it_is(context: Path) -> None:
    seen: list[tuple[Message, ...]] = []

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        seen.extend(prompts)
        return [Answer(call_id="c", text="a") for _ in prompts]

    with over(context, query) as repl:
        shown(repl, "llm_query([{'role': 'system', 'content': 'S'}, {'role': 'user', 'content': 'U'}])")
    assert seen == [(Message(role="system", content="S"), Message(role="user", content="U"))]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("llm_query('')", "ValueError: prompt is empty"),
        ("llm_query('  \\n')", "ValueError: prompt is empty"),
        ("llm_query([])", "ValueError: prompt is empty"),
        ("llm_query(5)", "TypeError: prompt must be a str or a list of messages"),
        ("llm_query(None)", "TypeError: prompt must be a str or a list of messages"),
        ("llm_query({'role': 'user', 'content': 'x'})", "TypeError: prompt must be a str or a list"),
        ("llm_query(['x'])", "TypeError: prompt[0] must be a dict"),
        ("llm_query([{'role': 'robot', 'content': 'x'}])", "ValueError: prompt[0]: role must be one of"),
        ("llm_query([{'role': [], 'content': 'x'}])", "ValueError: prompt[0]: role must be one of"),
        ("llm_query([{'role': 'user', 'content': 5}])", "TypeError: prompt[0]: content must be a str"),
        ("llm_query('x', model=5)", "TypeError: model must be a str or None"),
        ("llm_query('x', model='')", "ValueError: model is empty"),
        ("llm_query('x' * (17 << 20))", "at most 16,777,216 can be sent"),
        ("llm_query_batched('x')", "TypeError: llm_query_batched takes a list of prompts, not str"),
        ("llm_query_batched(5)", "TypeError: llm_query_batched takes a list of prompts, not int"),
        ("llm_query_batched(['a', ''])", "ValueError: prompts[1] is empty"),
        ("llm_query_batched(['a', 5])", "TypeError: prompts[1] must be a str"),
        ("rlm_query('')", "ValueError: prompt is empty"),
        ("rlm_query('', 'text')", "ValueError: prompt is empty"),
        ("rlm_query(5, 'text')", "TypeError: prompt must be a str"),
        ("rlm_query('x', 5)", "TypeError: context must be a str, list or dict, not int"),
        ("rlm_query('x', 'c', '')", "ValueError: model is empty"),
        ("rlm_query_batched('x')", "TypeError: llm_query_batched takes a list of prompts, not str"),
        ("rlm_query_batched('x', ['c'])", "TypeError: llm_query_batched takes a list of prompts, not str"),
        ("rlm_query_batched(['x'], 'c')", "TypeError: rlm_query_batched takes a list with one context"),
        ("rlm_query_batched(['x'], ['c', 'd'])", "ValueError: there are 1 prompts and 2 contexts"),
        ("rlm_query_batched(['x'], [5])", "TypeError: contexts[0] must be a str, list or dict"),
    ],
)
def test_23_a_call_that_cannot_be_made_is_a_clear_error_and_asks_nothing(
    repl: Sandbox, call: str, said: str
) -> None:
    result = repl.run(call)
    assert result.error is not None
    assert said in result.error
    assert "inside" not in result.error
    assert result.calls == 0


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        ("rlm_query('q')", "q"),
        ("rlm_query('q', 'some text')", "q\n\nContext:\nsome text"),
        ("rlm_query('q', context=['a', 'b'])", "q\n\nContext:\n[0]\na\n\n[1]\nb"),
        ("rlm_query('q', {'k': 'a', 'l': [1, 'é']})", 'q\n\nContext:\n[k]\na\n\n[l]\n[1, "é"]'),
        ("rlm_query([{'role': 'user', 'content': 'q'}], 'c')", "Context:\nc"),
    ],
)
def test_rlm_query_is_a_plain_call_of_prompt_and_context(repl: Sandbox, call: str, sent: str) -> None:
    assert shown(repl, call) == f"{f'None:{sent}'!r}\n"
    result = repl.run(f"isinstance({call}, str)")
    assert (result.output.head, result.calls) == ("True\n", 1)


def test_rlm_query_batched_pairs_prompts_and_contexts(repl: Sandbox) -> None:
    assert shown(repl, "rlm_query_batched(['p', 'q'], model='m')") == "['m:p', 'm:q']\n"
    assert shown(repl, "rlm_query_batched(['p', 'q'], ['a', None])") == (
        "['None:p\\n\\nContext:\\na', 'None:q']\n"
    )


def test_23_ten_thousand_prompts_are_answered_in_order_some_at_a_time(context: Path) -> None:
    sizes: list[int] = []

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        sizes.append(len(prompts))
        return echo(prompts, model)

    with over(context, query) as repl:
        result = repl.run("a = llm_query_batched([f'p{i}' for i in range(10_000)])")
        assert result.error is None
        assert (result.calls, result.failed_calls) == (10_000, 0)
        assert (sum(sizes), max(sizes)) == (10_000, 256)  # the first are sent while the last are prepared
        assert (
            shown(repl, "a == [f'None:p{i}' for i in range(10_000)], all(x.ok for x in a)")
            == "(True, True)\n"
        )


def test_prompts_and_answers_over_one_frame_go_in_several(context: Path) -> None:
    with over(context, echo) as repl:
        code = "ps = [c * 3_000_000 for c in 'abcdefgh']\nllm_query_batched(ps) == ['None:' + p for p in ps]"
        assert shown(repl, code) == "True\n"
        assert shown(repl, "llm_query('x' * 16_000_000) == 'None:' + 'x' * 16_000_000") == "True\n"


def test_answers_over_one_frame_come_in_several(context: Path) -> None:
    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        return [Answer(call_id="c", text=prompt[-1].content * 3_000_000) for prompt in prompts]

    with over(context, query) as repl:
        code = "llm_query_batched(list('abcdefgh')) == [c * 3_000_000 for c in 'abcdefgh']"
        assert shown(repl, code) == "True\n"


def test_a_batch_may_be_empty_or_any_iterable(repl: Sandbox) -> None:
    assert shown(repl, "llm_query_batched([]), llm_query_batched(c for c in 'ab')") == (
        "([], ['None:a', 'None:b'])\n"
    )


def test_odd_characters_in_a_prompt_are_replaced(repl: Sandbox) -> None:
    assert shown(repl, "llm_query('a\\ud800{b}\\N{GRINNING FACE}')") == "'None:a\ufffd{b}\N{GRINNING FACE}'\n"


def test_22_a_failed_call_raises_in_llm_query(context: Path) -> None:
    with over(context, failing_on("bad")) as repl:
        result = repl.run("llm_query('bad')")
        assert result.error is not None
        assert result.error.endswith("\nLLMQueryError: invalid: the endpoint refused it")
        assert (result.calls, result.failed_calls) == (1, 1)
        assert shown(repl, "try:\n    llm_query('bad')\nexcept LLMQueryError as e:\n    print('caught')") == (
            "caught\n"
        )


def test_22_a_failed_call_in_a_batch_fails_its_slot_alone(context: Path) -> None:
    with over(context, failing_on("bad")) as repl:
        result = repl.run("a = llm_query_batched(['x', 'bad', 'y'])")
        assert (result.error, result.calls, result.failed_calls) == (None, 3, 1)
        assert shown(repl, "[x.ok for x in a], a[0], isinstance(a[1], str), a[1]") == (
            "([True, False, True], 'X', True, '[llm_query failed: invalid: the endpoint refused it]')\n"
        )


def cut_on(word: str) -> Query:
    """A sub model whose answer to a prompt that contains ``word`` is cut off."""

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        texts = [prompt[-1].content for prompt in prompts]
        return [Answer(call_id="c", text=text.upper(), truncated=word in text) for text in texts]

    return query


def test_33_an_answer_that_was_cut_off_says_so(context: Path) -> None:
    with over(context, cut_on("long")) as repl:
        result = repl.run(
            "a = llm_query_batched(['x', 'long', 'y'])\nb, c = llm_query('long'), llm_query('z')"
        )
        assert (result.error, result.calls, result.failed_calls, result.truncated_calls) == (None, 5, 0, 2)
        assert shown(repl, "[x.truncated for x in a], [x.ok for x in a], a[1]") == (
            "([False, True, False], [True, True, True], 'LONG')\n"
        )
        assert shown(repl, "b.truncated, b.ok, b, c.truncated, c.ok") == "(True, True, 'LONG', False, True)\n"
        assert repl.run("a[1]").truncated_calls == 0


def test_33_a_failed_answer_is_not_cut_off(context: Path) -> None:
    with over(context, failing_on("bad")) as repl:
        assert shown(repl, "[x.truncated for x in llm_query_batched(['x', 'bad'])]") == "[False, False]\n"


def test_a_call_error_of_the_query_fails_these_calls_alone(context: Path) -> None:
    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        raise CallError("transient", "the endpoint is down")

    with over(context, query) as repl:
        result = repl.run("llm_query_batched(['a', 'b'])[1]")
        assert result.error is None
        assert "transient: the endpoint is down" in result.output.head
        assert (result.calls, result.failed_calls) == (2, 2)


def test_a_call_error_that_every_call_would_meet_ends_the_cell(context: Path) -> None:
    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        raise CallError(FailureKind.AUTH, "wrong key")

    with over(context, query) as repl, pytest.raises(CallError, match="auth: wrong key"):
        repl.run("for _ in range(3):\n    try: llm_query('q')\n    except LLMQueryError: pass")


def test_21_calls_from_threads_are_under_way_at_the_same_time(context: Path) -> None:
    together = threading.Barrier(8, timeout=20)

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        together.wait()
        return echo(prompts, model)

    with over(context, query) as repl:
        code = (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(8) as pool:\n"
            "    print(list(pool.map(llm_query, 'abcdefgh')))"
        )
        assert shown(repl, code) == str([f"None:{c}" for c in "abcdefgh"]) + "\n"


def test_21_asyncio_to_thread_works(repl: Sandbox) -> None:
    code = (
        "import asyncio\nasync def go():\n"
        "    return await asyncio.gather(*[asyncio.to_thread(llm_query, c) for c in 'ab'])\n"
        "asyncio.run(go())"
    )
    assert shown(repl, code) == "['None:a', 'None:b']\n"


def test_a_final_in_a_thread_of_a_pool_ends_the_block(repl: Sandbox) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(2) as pool:\n    pool.submit(FINAL, 'a').result()\nprint('never')"
    )
    result = repl.run(code)
    assert result.final is not None
    assert (result.final.text, result.output.head) == ("a", "")


def test_27_time_in_a_sub_call_does_not_count(context: Path) -> None:
    """The call takes several times the limit; if it counted, the cell would be stopped."""
    limit_s = 0.5
    may_answer = threading.Event()

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        may_answer.wait(4 * limit_s)
        return echo(prompts, model)

    with over(context, query, limit_s) as repl:
        assert shown(repl, "llm_query('q')") == "'None:q'\n"


def test_the_clock_goes_on_once_the_calls_are_answered(context: Path) -> None:
    with over(context, echo, 0.5) as repl:
        result = repl.run("llm_query('q')\nx = 1\nwhile True: pass")
        assert result.error is not None
        assert result.error.startswith("Stopped: the block ran for more than 0.5 s. Its variables are kept.")
        assert shown(repl, "x") == "1\n"


def test_a_loop_of_calls_that_fail_at_once_does_not_stop_the_clock(context: Path) -> None:
    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        threading.Event().wait(0.05)
        raise CallError(FailureKind.INVALID, "no")

    with over(context, query, 0.5) as repl:
        result = repl.run("x = 1\nwhile True:\n    try: llm_query('q')\n    except LLMQueryError: pass")
        assert result.error is not None
        assert result.error.startswith("Stopped: the block ran for more than 0.5 s. Its variables are kept.")
        assert shown(repl, "x") == "1\n"


def test_time_in_sub_calls_is_bounded_too(context: Path) -> None:
    never = threading.Event()

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        never.wait(60)
        return echo(prompts, model)

    with over(context, query, 0.1) as repl:
        result = repl.run("x = 1\nllm_query('q')")
        assert result.error is not None
        assert result.error.startswith(
            "Stopped: the block ran for more than 2 s, sub-calls included. Its variables are kept."
        )
        assert shown(repl, "x") == "1\n"
    never.set()


@pytest.mark.parametrize(
    "error",
    [
        Cancelled("j"),
        Superseded("j", 2),
        Unreachable("Redis", "h:1", "down"),
        SandboxError("x"),
        RuntimeError("bug"),
    ],
)
def test_an_error_of_the_query_ends_the_cell_and_is_raised(context: Path, error: Exception) -> None:
    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        raise error

    with over(context, query) as repl:
        with pytest.raises(type(error)) as raised:
            repl.run("try:\n    llm_query('q')\nexcept BaseException: pass\nwhile True: pass")
        assert raised.value is error


def test_a_reached_limit_ends_the_cell_and_keeps_the_variables(context: Path) -> None:
    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        raise LimitExceeded("max_sub_calls", 5, 5)

    with over(context, query) as repl:
        with pytest.raises(LimitExceeded):
            repl.run(
                "answer['content'] = 'half'\ntry: llm_query('q')\nexcept Exception: pass\nwhile True: pass"
            )
        found = repl.resolve("answer['content']")
        assert found.final is not None
        assert found.final.text == "half"


def test_an_error_that_a_thread_meets_between_cells_is_raised_by_the_next_run(context: Path) -> None:
    asked = threading.Event()

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        asked.set()
        raise Cancelled("j")

    with over(context, query) as repl:
        shown(repl, "import threading, time\nthreading.Timer(0.05, llm_query, 'q').start()")
        assert asked.wait(20)
        wait_until(lambda: _raises(repl, Cancelled))


def _raises(repl: Sandbox, error: type[RLMError]) -> bool:
    try:
        repl.run("1")
    except error:
        return True
    return False


def _after(event: threading.Event, action: Callable[[], None]) -> None:
    assert event.wait(20)
    action()


def test_abort_from_another_thread_is_raised_by_the_running_cell(context: Path) -> None:
    asked = threading.Event()
    never = threading.Event()

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        asked.set()
        never.wait(60)
        return echo(prompts, model)

    repl = over(context, query)
    repl.start()
    aborting = threading.Thread(target=_after, args=(asked, lambda: repl.abort(Cancelled("j"))))
    aborting.start()
    with pytest.raises(Cancelled):
        repl.run("llm_query('q')")
    never.set()
    aborting.join()
    repl.close()


def test_close_from_another_thread_ends_the_running_cell(context: Path) -> None:
    asked = threading.Event()

    def query(prompts: Prompts, model: str | None) -> list[Answer]:
        asked.set()
        return echo(prompts, model)

    repl = over(context, query)
    repl.start()
    closing = threading.Thread(target=_after, args=(asked, repl.close))
    closing.start()
    with pytest.raises(SandboxError):
        repl.run("llm_query('q')\nwhile True: pass")
    closing.join()
    repl.close()
    with pytest.raises(SandboxError):
        repl.run("1")
    with pytest.raises(SandboxError):
        repl.restart()


def test_a_process_forked_by_the_model_cannot_make_calls(context: Path) -> None:
    """Only an unlocked REPL can fork."""
    code = (
        "import os\nr, w = os.pipe()\npid = os.fork()\n"
        "if not pid:\n"
        "    try:\n        llm_query('q')\n"
        "    except RuntimeError as e:\n        os.write(w, str(e).encode())\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\nos.read(r, 100)"
    )
    with Sandbox(context_path=context, query=echo, limits=LIMITS, start=PlainStart()) as repl:
        result = repl.run(code)
    assert result.error is None
    assert "own process only" in result.output.head
    assert result.calls == 0
