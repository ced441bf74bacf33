"""The REPL of a session: the next query keeps the variables, and gets a fresh ``answer``."""

from pathlib import Path

import pytest

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.host import EndedQuery, Sandbox
from tests.support.sandboxes import LIMITS, echo, forks, shown, write_context


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """A context of two items that are named, and two that were added."""
    first = write_context(tmp_path / "0", "list", ["a", "b"], several=True)
    second, third = (
        write_context(tmp_path / "1", "str", ["ü"]),
        write_context(tmp_path / "2", "json", ["[1]"]),
    )
    first.write_bytes(b"".join(path.read_bytes() for path in (first, second, third)))
    return first


def test_what_was_added_is_there_from_its_query_on(joined: Path) -> None:
    with Sandbox(context_path=joined, query=echo, limits=LIMITS, start=forks()) as repl:
        assert shown(repl, "print(SHOW_VARS())").splitlines()[-1] == "context_1: str, 1 characters"
        assert repl.begin(1, None) == ()
        assert shown(repl, "print(context_2, 'context_3' in globals())") == "ü False\n"
        repl.begin(2, None)
        assert shown(repl, "context_3, context") == "([1], ['a', 'b'])\n"
        repl.run("context_3 = 5")
        assert shown(repl, "context_3") == "[1]\n"


def test_variables_stay_and_the_answer_is_fresh(joined: Path) -> None:
    with Sandbox(context_path=joined, query=echo, limits=LIMITS, start=forks()) as repl:
        repl.run("names = ['x', 'y']\nanswer['content'] = 'draft'")
        lines = repl.begin(0, EndedQuery("One?", "1"))
        assert lines == ("names: list, 2 items",)
        assert shown(repl, "print(answer, names)") == "{'content': '', 'ready': False} ['x', 'y']\n"
        result = repl.run("answer['content'] = 'draft'")  # told again, though it is the same text
        assert result.partial == "draft"
        repl.run("answer = 'mine'")
        repl.begin(0, EndedQuery("Two?", None))
        assert shown(repl, "print(answer['content'] == '', session_history, len(history))") == (
            "True [{'query': 'One?', 'answer': '1'}, {'query': 'Two?', 'answer': None}] 4\n"
        )


def test_a_process_that_ended_cannot_begin(joined: Path) -> None:
    with Sandbox(context_path=joined, query=echo, limits=LIMITS, start=forks()) as repl:
        repl.run("import os\nos._exit(3)")
        with pytest.raises(SandboxError, match="the next query cannot begin"):
            repl.begin(0, None)
