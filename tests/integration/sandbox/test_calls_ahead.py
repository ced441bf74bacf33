"""Loops of ``llm_query`` in a real REPL: their calls come in one frame, and nothing else changes."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlm_dist.errors import Cancelled, ModelNotAllowed
from rlm_dist.sandbox.host import EndedQuery, Query, Sandbox
from rlm_dist.schema import Answer, Message
from tests.support.sandboxes import LIMITS, echo, failing_on, forks, shown, write_context

Prompts = Sequence[tuple[Message, ...]]
LOOP = "notes = []\nfor n in range(count):\n    notes.append(llm_query(f'{n}'))"


class Host:
    """Serves ``query`` and ``query_ahead``, and notes how many prompts came together."""

    def __init__(self, query: Query, room: int = 1000) -> None:
        self.one_by_one: list[str] = []
        self.ahead: list[int] = []
        self._query = query
        self._room = room

    def query(self, prompts: Prompts, model: str | None) -> list[Answer]:
        """As the wrapped one."""
        self.one_by_one += [prompt[-1].content for prompt in prompts]
        return self._query(prompts, model)

    def query_ahead(self, prompts: Prompts, model: str | None) -> Sequence[Answer | None]:
        """The same, with no more than this room."""
        self.ahead.append(len(prompts))
        made = self._query(prompts[: self._room], model)
        return [*made, *[None] * (len(prompts) - len(made))]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An encoded context."""
    return write_context(tmp_path / "context", "str", ["hello"])


def over(context: Path, host: Host) -> Sandbox:
    """A REPL over this host, not yet started."""
    return Sandbox(
        context_path=context, query=host.query, query_ahead=host.query_ahead, limits=LIMITS, start=forks()
    )


@pytest.fixture
def host() -> Host:
    """A host whose model echoes."""
    return Host(echo)


@pytest.fixture
def repl(context: Path, host: Host) -> Iterator[Sandbox]:
    """A started REPL over it."""
    with over(context, host) as sandbox:
        yield sandbox


def test_a_loop_over_32_pieces_is_one_frame(repl: Sandbox, host: Host) -> None:
    result = repl.run(f"count = 32\n{LOOP}\nprint(notes == [f'None:{{n}}' for n in range(32)])")
    assert (result.output.head, result.error, result.calls) == ("True\n", None, 32)
    assert (host.ahead, host.one_by_one) == ([32], [])


def test_a_failed_call_is_raised_at_its_line_with_what_was_stored_before(context: Path) -> None:
    """``calls`` are those that were made; the ones after the failed one serve a later block."""
    host = Host(failing_on("7"))
    with over(context, host) as repl:
        result = repl.run(f"count = 20\n{LOOP}")
        assert result.error is not None
        assert 'File "<cell 1>", line 4' in result.error
        assert "notes.append(llm_query(f'{n}'))" in result.error
        assert "LLMQueryError: invalid" in result.error
        assert "inside" not in result.error
        assert (result.calls, result.failed_calls, result.unused_calls) == (20, 2, 12)
        assert shown(repl, "n, notes") == f"(7, {[str(n) for n in range(7)]})\n"
        again = repl.run("[llm_query(f'{n}') for n in range(8, 12)]")
        assert (again.error, again.calls, again.unused_calls) == (None, 0, 8)


def test_a_query_of_a_session_uses_nothing_that_an_earlier_one_issued(context: Path) -> None:
    """When the session is rebuilt, the earlier query's calls may be answered otherwise, or not be made."""
    host = Host(failing_on("7"))
    with over(context, host) as repl:
        repl.run(f"count = 20\n{LOOP}")
        repl.begin(0, EndedQuery("One?", None))
        result = repl.run("llm_query('8')")
        assert (result.error, result.calls, result.unused_calls) == (None, 1, 0)
        assert host.one_by_one == ["8"]


def test_what_has_no_room_is_made_at_its_line_and_counted_once(context: Path) -> None:
    host = Host(echo, room=3)
    with over(context, host) as repl:
        result = repl.run(f"count = 8\n{LOOP}\nnotes")
        assert result.output.head == f"{[f'None:{n}' for n in range(8)]}\n"
        assert (result.calls, result.failed_calls) == (8, 0)
    assert (host.ahead, host.one_by_one) == ([8, 5, 2], [])


def test_a_model_that_may_not_be_used_raises_at_the_line_and_no_call_counts(context: Path) -> None:
    def refuse(prompts: Prompts, model: str | None) -> list[Answer]:
        raise ModelNotAllowed("dear", ("small",))

    with over(context, Host(refuse)) as repl:
        result = repl.run("notes = []\nfor p in 'abc':\n    notes.append(llm_query(p, model='dear'))")
        assert "line 3" in (result.error or "")
        assert "ValueError" in (result.error or "")
        assert (result.calls, result.failed_calls, result.unused_calls) == (0, 0, 0)


def test_long_prompts_go_ahead_as_far_as_a_frame_holds_them(repl: Sandbox, host: Host) -> None:
    """Three of 3 MB: two fit."""
    code = "notes = []\nfor p in 'abc':\n    notes.append(llm_query(p * 3_000_000))\n[len(n) for n in notes]"
    assert shown(repl, code) == f"{[3_000_005] * 3}\n"
    assert (host.ahead, len(host.one_by_one)) == ([2], 1)


def test_loops_in_threads_have_plans_of_their_own(repl: Sandbox, host: Host) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
def ask(name):
    answers = []
    for n in range(5): answers.append(llm_query(f"{name}{n}"))
    return answers
with ThreadPoolExecutor(4) as pool: results = list(pool.map(ask, "abcd"))
results == [[f"None:{name}{n}" for n in range(5)] for name in "abcd"]
"""
    assert shown(repl, code) == "True\n"
    assert (host.ahead, host.one_by_one) == ([5] * 4, [])


def test_a_name_that_was_rebound_is_not_taken_for_the_repls_own(repl: Sandbox, host: Host) -> None:
    """It was, in the block before; the block after it has the REPL's own again."""
    assert shown(repl, "llm_query = str.upper\n[llm_query(p) for p in 'ab']") == "['A', 'B']\n"
    assert shown(repl, "[llm_query(p) for p in 'ab']") == "['None:a', 'None:b']\n"
    assert host.ahead == [2]


def test_a_cancelled_job_stops_in_the_middle_of_a_window(context: Path) -> None:
    asked, over_now = threading.Event(), threading.Event()

    def hang(prompts: Prompts, model: str | None) -> list[Answer]:
        asked.set()
        over_now.wait()
        return echo(prompts, model)

    with over(context, Host(hang)) as repl, ThreadPoolExecutor() as pool:
        running = pool.submit(repl.run, f"count = 9\n{LOOP}")
        asked.wait()
        repl.abort(Cancelled("j"))
        with pytest.raises(Cancelled):
            running.result()
        over_now.set()


def test_the_history_has_the_models_own_code(repl: Sandbox) -> None:
    code = "out = [llm_query(p) for p in 'ab']"
    shown(repl, code)
    assert shown(repl, "history[-1]['code']") == f"{code!r}\n"
