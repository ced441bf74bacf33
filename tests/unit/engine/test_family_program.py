"""A prompt family's program runs before the root model is asked, and the first message has its output."""

import pytest

from rlm_dist.engine import prompts
from rlm_dist.engine.prompts.families import PromptTexts, check_family
from rlm_dist.engine.prompts.shots import SHOTS
from rlm_dist.errors import SettingsError
from rlm_dist.schema import JobLimits
from tests.support.fake_repl import FakeRepl, Run

ANSWER = "```repl\nFINAL(len(rows))\n```"
CSV = "name,points\nAda,4\nJon,2"
OWN = PromptTexts(
    system="Use context, repl, llm_query and FINAL.",
    task="{context} | {query}",
    program="n = len(context)\nprint('it has', n)",
)


def test_its_output_joins_the_first_message() -> None:
    run = Run(ANSWER, prompts="small", repl=FakeRepl(CSV))
    assert run.answer == "2"
    (chat,) = run.script.chats
    assert chat[-1].role == "user"
    assert "- name: 'Ada', 'Jon'" in chat[-1].content
    assert chat[-1].content.endswith(prompts.GO_ON)
    assert [message.role for message in chat] == ["system", *["user", "assistant"] * len(SHOTS), "user"]
    assert run.outcome.iterations == 1


def test_its_turn_is_an_event_and_the_first_message_is_said_once() -> None:
    run = Run(ANSWER, prompts="small", repl=FakeRepl(CSV))
    (event, _) = [event for event in run.events if event.event == "root_replied"]
    assert (event.turn, event.model, event.usage.input_tokens) == (0, "program", 0)
    said = [event.text for event in run.events if event.event == "message_added"]
    assert [text for text in said if "How many?" in text] == [run.script.last_message()]


def test_a_job_that_is_taken_over_goes_on_with_it() -> None:
    first = Run("```repl\nprint(len(rows))\n```", ANSWER, prompts="small", repl=FakeRepl(CSV))
    again = Run(prompts="small", repl=FakeRepl(CSV), journal=first.written)
    assert (again.answer, again.written) == ("2", [])
    cut = Run(ANSWER, prompts="small", repl=FakeRepl(CSV), journal=first.written[:3])
    assert cut.answer == "2"
    assert cut.script.chats[0] == first.script.chats[1]


def test_a_job_that_an_earlier_version_began_goes_on_without_it() -> None:
    before = Run("```repl\nprint(1)\n```", "```repl\nFINAL(1)\n```", prompts="coder")
    again = Run(prompts="small", journal=before.written)
    assert (again.answer, again.written) == ("1", [])
    assert again.marks() == []


def test_a_job_with_a_program_or_a_single_turn_has_none_of_the_family() -> None:
    own = Run(prompts="small", program="FINAL('rows' in globals())")
    assert own.answer == "False"
    single = Run(
        "```repl\nFINAL('rows' in globals())\n```", prompts="small", limits=JobLimits(max_iterations=1)
    )
    assert single.answer == "False"
    assert prompts.LOOK in single.script.last_message()


def test_a_family_of_a_file_may_have_one() -> None:
    run = Run("```repl\nFINAL(n)\n```", prompts="file", texts=OWN)
    assert run.answer == "9"
    assert run.script.last_message().startswith(
        "`context` is a str of 9 characters.\n\nWhat it holds:\nit has 9"
    )
    assert run.script.last_message().endswith(" | How many?")


def test_it_may_hand_in_the_answer() -> None:
    run = Run(prompts="file", texts=OWN.model_copy(update={"program": "FINAL(len(context))"}))
    assert (run.answer, run.outcome.iterations) == ("9", 0)


def test_one_that_fails_shows_its_error_and_the_model_goes_on() -> None:
    run = Run("```repl\nFINAL(1)\n```", prompts="file", texts=OWN.model_copy(update={"program": "1 / 0"}))
    assert run.answer == "1"
    assert "ZeroDivisionError" in run.script.last_message()


def test_a_file_without_one_has_the_hash_that_it_had() -> None:
    without = OWN.model_copy(update={"program": ""})
    assert "program" not in without.model_dump_json()
    assert without.sha256 != OWN.sha256
    assert PromptTexts.model_validate_json(OWN.model_dump_json()) == OWN


def test_one_that_is_no_text_is_refused() -> None:
    with pytest.raises(SettingsError, match="program"):
        check_family({"system": OWN.system, "task": OWN.task, "program": 5}, "p.toml")
