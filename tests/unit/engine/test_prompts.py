"""What the prompts say to the root model."""

import ast
import re

import pytest

from rlm_dist.engine import prompts
from rlm_dist.engine.prompts.shots import SHOTS
from rlm_dist.schema import ContextInfo
from tests.support.fake_repl import spec

NAMES = (
    "context", "context_0", "context_paths", "llm_query", "llm_query_batched", "FINAL", "FINAL_VAR", "answer",
    "SHOW_VARS", "history", "rlm_query",
)  # fmt: skip


@pytest.mark.parametrize("family", ["coder", "frugal", "small"])
def test_every_family_tells_the_names_there_are(family: str) -> None:
    text = prompts.opening(spec(prompts=family))[0].content.replace("`", "")
    assert [name for name in NAMES if name not in text] == []


@pytest.mark.parametrize("family", ["coder", "frugal", "small"])
def test_all_but_the_last_message_is_the_same_for_every_job(family: str) -> None:
    one = prompts.opening(spec("a query", prompts=family))
    other = prompts.opening(spec("{b}", prompts=family, info=ContextInfo(kind="dict", chars=9, items=2)))
    assert one[:-1] == other[:-1]


def test_the_examples_of_small_are_programs_and_leave_room_in_a_small_window() -> None:
    for shot in SHOTS:
        code = re.fullmatch(r"```repl\n(.*)\n```", shot.reply, re.DOTALL)
        assert code is not None
        assert "FINAL(" in code[1]
        ast.parse(code[1])
    chars = sum(len(message.content) for message in prompts.opening(spec(prompts="small")))
    assert chars < 10_500  # some 3,300 tokens of 8,192


@pytest.mark.parametrize(
    ("info", "line"),
    [
        (ContextInfo(kind="str", chars=1234567, items=1), "`context` is a str of 1,234,567 characters."),
        (ContextInfo(kind="dict", chars=10, items=2, sizes=(4, 6)), "Characters of each: 4, 6"),
        (
            ContextInfo(kind="list", chars=10, items=2, sizes=(4, 6), several=True),
            "`context_0` to `context_1`",
        ),
        (ContextInfo(kind="list", chars=10, items=2, named=True), "`context_paths`"),
        (ContextInfo(kind="json", chars=10, items=1), "JSON value"),
    ],
)
def test_the_first_message_says_what_the_context_is(info: ContextInfo, line: str) -> None:
    assert line in prompts.task(info, "q")
