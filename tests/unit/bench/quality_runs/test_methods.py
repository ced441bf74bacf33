"""What each method adds to a job, and its program in a REPL over a small window."""

import ast
import json
from collections.abc import Callable
from typing import Any

import pytest

from rlm_dist.bench.quality.items import ScorerName, TaskItem
from rlm_dist.bench.quality_runs.jobs import options_for, settings_for
from rlm_dist.bench.quality_runs.methods import ABLATIONS, METHODS, chosen_methods, method_named
from rlm_dist.bench.quality_runs.models import RootModel
from rlm_dist.bench.quality_runs.programs import (
    Rooms,
    base_program,
    bm25_program,
    handed_in,
    rooms,
    summary_program,
)
from rlm_dist.client.options import read_options
from rlm_dist.errors import InputError
from rlm_dist.settings import Settings
from tests.support.fake_repl import FakeRepl, Run

QUERY = "What does {braces} \"say\"?\nWith 'quotes', \\n and @ROOM@."
ROOMS = Rooms(base=100, part=40, notes=20, shown=100)
ROOT = RootModel(name="big", window=1_000, window_from="option")
ITEM = TaskItem(
    id="i", task="t", context="c", query=QUERY, expected=("1",), scorer=ScorerName.EXACT, tokens=1
)


class Model:
    """A model that notes its prompts; ``reply`` makes its answers."""

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.prompts: list[str] = []
        self._reply = reply

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self._reply(prompt)


def handed(program: str, context: Any, model: Model) -> tuple[str | None, int, str]:
    """What a job with this program hands in, whose root model must not be asked."""
    outcome = Run(repl=FakeRepl(context, llm_query=model), program=program, all_used=False).outcome
    return handed_in(outcome.answer, outcome.answer_json)


@pytest.mark.parametrize(
    "method", [*METHODS.values(), *(v for a in ABLATIONS for v in chosen_methods((), [a]))]
)
def test_each_method_is_made_of_options_and_settings_that_exist(method: Any) -> None:
    options = options_for(method, ITEM, ROOT)
    assert read_options(options)
    assert settings_for(method, ROOT).keys() <= Settings.model_fields.keys()
    assert method_named(method.name) == method
    assert (options.get("sub_model") == "big") == (method.name in ("base", "summary"))


def test_the_options_are_what_the_methods_are_called() -> None:
    assert METHODS["rlm-no-calls"].options["max_sub_calls"] == 0
    assert METHODS["codeact-bm25"].options["max_sub_calls"] == 0
    assert METHODS["rlm"].options["max_depth"] == 1
    assert METHODS["rlm-depth-2"].options["max_depth"] == 2


@pytest.mark.parametrize("name", ["codeact-bm25", "rlm-no-calls"])
def test_a_users_instructions_follow_those_of_a_method(name: str) -> None:
    own = METHODS[name].options["instructions"]
    assert options_for(METHODS[name], ITEM, ROOT, "Answer in German.")["instructions"] == (
        f"{own}\n\nAnswer in German."
    )
    assert options_for(METHODS[name], ITEM, ROOT)["instructions"] == own
    assert "instructions" not in options_for(METHODS["rlm"], ITEM, ROOT, "Answer in German.")


@pytest.mark.parametrize("name", ["base", "summary"])
def test_a_users_instructions_reach_a_model_that_a_program_asks(name: str) -> None:
    model = Model(lambda prompt: "seven")
    handed(options_for(METHODS[name], ITEM, ROOT, "Answer in German.")["program"], "A short text.", model)
    assert all(f"Answer in German.\n\n{QUERY}" in prompt for prompt in model.prompts)
    assert model.prompts[-1].endswith(QUERY)


def test_unknown_names_are_said() -> None:
    with pytest.raises(InputError, match="--method: rml is none of base") as error:
        chosen_methods(["rlm", "rml"], ["prompt"])
    assert "--ablate: prompt is none of prompts" in str(error.value)


def test_an_ablation_brings_the_default_once() -> None:
    names = [method.name for method in chosen_methods(["base"], ["prompts", "compaction"])]
    assert names[:2] == ["base", "rlm"]
    assert "rlm/prompts=small" in names
    assert "rlm/compaction=off" in names
    assert len(set(names)) == len(names)


def test_a_variant_that_is_the_default_already_is_left_out() -> None:
    defaults = {"prompts": "small", "ask_at_limit": True, "compaction": "off"}
    names = [each.name for each in chosen_methods([], list(ABLATIONS), defaults)]
    assert names == [
        "rlm",
        "rlm/prompts=coder",
        "rlm/prompts=frugal",
        "rlm/early-final=refuse",
        "rlm/compaction=summary",
    ]


def test_the_base_model_sees_the_whole_text_and_the_query_in_one_call() -> None:
    model = Model(lambda prompt: "seven")
    assert handed(base_program(QUERY, ROOMS), "A short text.", model) == ("seven", 0, "")
    assert model.prompts == [f"A short text.\n\n{QUERY}"]


def test_a_text_that_does_not_fit_is_cut_in_the_middle_and_that_is_marked() -> None:
    model = Model(lambda prompt: "?")
    text = "a" * 75 + "m" * 60 + "z" * 75
    assert handed(base_program(QUERY, ROOMS), text, model) == ("?", 110, "")
    kept = model.prompts[0].removesuffix(f"\n\n{QUERY}")
    assert kept == "a" * 50 + "\n[... 110 characters left out ...]\n" + "z" * 50


def test_a_text_that_the_endpoint_finds_too_long_is_cut_further() -> None:
    def reply(prompt: str) -> str:
        if len(prompt) > 80 + len(QUERY):
            raise RuntimeError("the prompt has 30 tokens, the model's window is 20")
        return "fits"

    answer, left_out, failure = handed(base_program(QUERY, ROOMS), "x" * 200, Model(reply))
    assert (answer, failure) == ("fits", "")
    assert left_out == 200 - 42  # 100 · ¾ · ¾ · ¾, rounded down each time


def test_a_call_that_fails_is_a_failure_with_its_reason() -> None:
    def refuse(prompt: str) -> str:
        raise RuntimeError("the key was refused")

    model = Model(refuse)
    assert handed(base_program(QUERY, ROOMS), "x", model) == (None, 0, "RuntimeError: the key was refused")
    assert len(model.prompts) == 1
    failed = handed(summary_program(QUERY, ROOMS), "x", model)
    assert failed == (None, 0, "RuntimeError: the key was refused")


@pytest.mark.parametrize(
    ("context", "text"),
    [
        (["one", "two"], "[document 1]\none\n\n[document 2]\ntwo"),
        ({"a.txt": "one"}, "[document a.txt]\none"),
    ],
)
def test_documents_are_one_text(context: Any, text: str) -> None:
    model = Model(lambda prompt: "?")
    handed(base_program(QUERY, ROOMS), context, model)
    assert model.prompts == [f"{text}\n\n{QUERY}"]


def test_notes_run_over_all_parts_and_the_answer_comes_from_them() -> None:
    model = Model(lambda prompt: f"notes {len(model.prompts)} " + "x" * 50)
    text = "a" * 40 + "b" * 40 + "c" * 5
    answer, left_out, _ = handed(summary_program(QUERY, ROOMS), text, model)
    assert len(model.prompts) == 4
    for number, letters in enumerate(("a" * 40, "b" * 40, "c" * 5)):
        assert f"Part {number + 1} of 3:\n{letters}\n" in model.prompts[number]
        assert QUERY in model.prompts[number]
    assert "(none)" in model.prompts[0]
    assert "notes 2 " + "x" * 12 + "\n" in model.prompts[2]  # cut to the 20 characters that notes have
    assert model.prompts[3].endswith(QUERY)
    assert "a" * 40 not in model.prompts[3]
    assert (answer, left_out) == ("notes 4 " + "x" * 50, 0)


def test_the_search_finds_a_chunk_that_the_chat_does_not_show() -> None:
    text = "The lamp is on. " * 400 + "The magic number for amber-key is 1234567. " + "Bread is warm. " * 400
    look = "```repl\nhits = search('magic number for amber-key', 2)\nprint(len(hits))\nFINAL(hits[0])\n```"
    run = Run(look, repl=FakeRepl(text), program=bm25_program(QUERY, ROOMS), max_output_chars=2_000)
    assert "1234567" in (run.answer or "")
    shown = run.script.chats[0][-1].content
    assert "characters left out" in shown
    assert "1234567" not in shown
    assert len(shown) < 1_000


def test_documents_are_searched_by_document_and_words_that_nothing_has_find_nothing() -> None:
    texts = ["The first one is about rivers.", "The second one is about mountains.", "Bread."]
    look = "```repl\nFINAL([search('mountains', 5), search('zebra', 5)])\n```"
    run = Run(look, repl=FakeRepl(texts), program=bm25_program(QUERY, ROOMS))
    assert run.outcome.answer_json == [[texts[1]], []]


def test_an_answer_of_another_job_is_as_it_is() -> None:
    assert handed_in("4", 4) == ("4", 0, "")
    assert handed_in('{"answer": 1}', {"answer": 1}) == ('{"answer": 1}', 0, "")
    assert handed_in(None, None) == (None, 0, "")


def test_the_rooms_of_a_window_leave_some_of_it() -> None:
    room = rooms(1_000, 4)
    assert room == Rooms(base=3_400, part=2_400, notes=400, shown=2_000)
    assert room.part + 2 * room.notes < room.base


def test_a_query_of_any_text_makes_a_program_that_is_python() -> None:
    for make in (base_program, summary_program, bm25_program):
        assert ast.parse(make(json.dumps(QUERY) + QUERY, ROOMS)).body
