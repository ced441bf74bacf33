"""What the model reads about its tools: in the system prompt, and the same in every run of the job."""

import json

from rlm_dist.engine.prompts import opening
from rlm_dist.engine.prompts.tools import MAX_TOOL_CHARS, ToolDoc, tool_docs
from tests.support.fake_repl import Run, spec


def test_signature_and_first_paragraph_follow_the_fixed_prompt() -> None:
    docs = tool_docs([ToolDoc("lookup(key: str) -> str", "Look it\nup.\n\nMore."), ToolDoc("f()", "")])
    with_tools, without = opening(spec(), tools=docs), opening(spec())
    assert with_tools[0].content == f"{without[0].content}\n{docs}"
    assert with_tools[1:] == without[1:]
    assert docs.splitlines()[1:] == ["- `lookup(key: str) -> str`: Look it up.", "- `f()`"]


def test_a_long_description_is_cut() -> None:
    (_, line) = tool_docs([ToolDoc("f()", "x" * 5000)]).splitlines()
    assert len(line) == MAX_TOOL_CHARS


def test_a_job_without_tools_writes_nothing_and_keeps_its_prompt() -> None:
    run = Run("```repl\nFINAL(1)\n```")
    assert all(json.loads(entry)["t"] != "tools" for entry in run.written)
    assert tool_docs([]) == ""


def test_a_resumed_job_keeps_the_descriptions_that_it_began_with() -> None:
    first = Run("```repl\nprint(1)\n```", "```repl\nFINAL(1)\n```", tools_text="old tools")
    again = Run("```repl\nFINAL(1)\n```", journal=first.written[:3], tools_text="new tools")
    assert again.script.chats[0][0].content == first.script.chats[0][0].content
    assert "old tools" in again.script.chats[0][0].content
    assert again.marks() == ["tools_changed"]
