"""Lines of OpenAI's Batch API, as other programs write them: what becomes query, context and parameters."""

from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from rlm_dist.client.batch_item import BatchItem, read_item
from rlm_dist.client.openai_batch import openai_line
from rlm_dist.errors import InputError
from rlm_dist.schema import Costs, JobState, Result, Timing

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
LONG = "".join(f"line {number}\n" for number in range(1000)) + "How many lines are there?"


def said(role: str, content: object, **others: object) -> dict[str, Any]:
    return {"role": role, "content": content, **others}


def line(*messages: dict[str, Any], **body: object) -> dict[str, Any]:
    return {"custom_id": "r1", "body": {"model": "gpt", "messages": list(messages)} | body}


def read(*messages: dict[str, Any], **body: object) -> BatchItem:
    return read_item(line(*messages, **body), Path("/base"))


def problems_of(whole_line: object) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        read_item(whole_line, Path("/base"))
    return caught.value.problems


def test_a_long_request_is_the_context_and_the_query_shows_its_ends() -> None:
    item = read(SYSTEM, said("user", LONG))
    assert (item.value, item.reading) == (LONG, "long")
    assert item.query.startswith("You are a helpful assistant.\n\n")
    assert "`context`" in item.query
    assert "first 500 characters" in item.query
    assert f"\n{LONG[:500]}\n" in item.query
    assert "last 1,500 characters" in item.query
    assert item.query.endswith(f"\n{LONG[-1500:]}")
    assert len(item.query) < 2500


@pytest.mark.parametrize(("chars", "reading"), [(4000, "alone"), (4001, "long")])
def test_a_request_is_long_above_4000_characters(chars: int, reading: str) -> None:
    item = read(said("user", "x" * chars))
    assert (item.reading, item.value) == (reading, "x" * chars)
    assert ("x" * 2001 in item.query) == (reading == "alone")


def test_a_short_request_after_earlier_turns_has_them_as_its_context() -> None:
    item = read(SYSTEM, said("user", LONG), said("user", "How many?"))
    assert (item.value, item.query, item.reading) == (LONG, f"{SYSTEM['content']}\n\nHow many?", "turns")
    item = read(said("user", "one"), said("assistant", "two"), said("user", "and?"))
    assert (item.value, item.query) == (["user: one", "assistant: two"], "and?")


def test_a_short_request_alone_is_query_and_context() -> None:
    """Beside long lines a file may have short ones; a job needs a context."""
    item = read(SYSTEM, said("developer", "Be brief."), said("user", "What is 2 + 2?"))
    assert (item.value, item.reading) == ("What is 2 + 2?", "alone")
    assert item.query == "You are a helpful assistant.\n\nBe brief.\n\nWhat is 2 + 2?"


def test_a_long_request_after_earlier_turns_is_the_last_item_of_the_context() -> None:
    item = read(said("user", "one"), said("assistant", "two"), said("user", LONG))
    assert (item.value, item.reading) == (["user: one", "assistant: two", f"user: {LONG}"], "long")
    assert "last item of `context`" in item.query


def test_instructions_count_wherever_they_stand_and_empty_messages_do_not() -> None:
    item = read(said("system", " "), said("user", ""), said("user", "How many?"), SYSTEM)
    assert (item.query, item.value) == (f"{SYSTEM['content']}\n\nHow many?", "How many?")


def test_null_fields_are_as_if_left_out() -> None:
    names = ["temperature", "max_tokens", "reasoning_effort", "response_format", "tools", "n", "stream"]
    names += ["logprobs", "metadata", "seed", "stop", "user", "tool_choice", "functions", "modalities"]
    item = read(said("user", "q", name=None), **dict.fromkeys(names))
    assert (item.options.model_dump(exclude_none=True), item.metadata) == ({"model": "gpt"}, {})
    assert read_item(line(said("user", "q")) | {"method": None, "url": None}, Path()).query == "q"


def test_parameters_of_the_answering_model_are_the_root_models() -> None:
    item = read(said("user", "q"), temperature=0, reasoning_effort="low", max_tokens=16, top_p=0.5)
    assert item.options.model_dump(exclude_none=True) == {
        "model": "gpt",
        "temperature": 0,
        "reasoning_effort": "low",
    }
    assert problems_of(line(said("user", "q"), temperature="hot"))[0].startswith("body.temperature: ")
    assert problems_of(line(said("user", "q"), temperature=-1))[0].startswith("body.temperature: ")


@pytest.mark.parametrize(
    ("asked", "tier"), [("flex", "flex"), ("priority", "priority"), ("default", "default"), ("auto", None)]
)
def test_a_service_tier_is_that_of_all_calls(asked: str, tier: str | None) -> None:
    assert read(said("user", "q"), service_tier=asked).options.tier == tier


def test_a_service_tier_that_nobody_knows_is_refused() -> None:
    assert problems_of(line(said("user", "q"), service_tier="best"))[0].startswith("body.service_tier: ")


@pytest.mark.parametrize(
    "url",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "https://api.example.com/v1/chat/completions",
        "/openai/deployments/mine/chat/completions?api-version=2024-10-21",
    ],
)
def test_the_url_is_that_of_chat_completions_in_any_spelling(url: str) -> None:
    assert read_item(line(said("user", "q")) | {"url": url, "method": "POST"}, Path()).query == "q"


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1, "stream": False, "logprobs": False, "store": True, "user": "u", "seed": 3, "tools": []},
        {"response_format": {"type": "text"}, "tool_choice": "auto", "parallel_tool_calls": True},
        {"functions": [], "modalities": ["text"], "max_completion_tokens": 5, "stream_options": {}},
    ],
)
def test_harmless_fields_are_taken(body: dict[str, Any]) -> None:
    assert read(said("user", "q"), **body).query == "q"


def test_messages_of_earlier_results_are_taken_as_history() -> None:
    ended = Result(
        id="j1",
        custom_id="r1",
        batch_id="b",
        state=JobState.SUCCEEDED,
        answer="42",
        answer_json=None,
        partial_answer=None,
        error=None,
        iterations=2,
        isolation="landlock",
        costs=Costs(),
        timing=Timing(),
    )
    response: Any = openai_line(ended, "gpt", created_s=5)["response"]
    ours = response["body"]["choices"][0]["message"]
    theirs = ChatCompletion.model_validate(response["body"]).choices[0].message.model_dump()
    citing = {**ours, "annotations": [{"type": "url_citation"}], "tool_calls": [], "reasoning_content": "hm"}
    for answer in (ours, theirs, citing):
        item = read(said("user", "the text"), answer, said("user", "And now?"))
        assert item.value == ["user: the text", "assistant: 42"]
    refused = said("assistant", None, refusal="I cannot say.")
    item = read(said("user", "the text"), refused, said("user", "And now?"))
    assert item.value == ["user: the text", "assistant: I cannot say."]


def test_metadata_and_ids_are_kept() -> None:
    item = read(said("user", "q"), metadata={"team": "billing"})
    assert (item.custom_id, item.form, item.metadata) == ("r1", "openai", {"team": "billing"})


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}}]
    parts += [{"type": "text", "text": "two"}]
    assert read(said("user", parts)).query == "one\ntwo"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            {"tools": [{"type": "function"}]},
            "body.tools: cannot be used here: a job has no tools of its caller",
        ),
        ({"functions": [{}]}, "body.functions: cannot be used here: a job has no tools of its caller"),
        (
            {"tool_choice": "required"},
            "body.tool_choice: cannot be used here: a job has no tools of its caller",
        ),
        ({"n": 2}, "body.n: cannot be used here: a job has one answer"),
        ({"stream": True}, "body.stream: cannot be used here: a batch is not streamed"),
        ({"logprobs": True}, "body.logprobs: cannot be used here: an answer has no log probabilities"),
        ({"modalities": ["text", "audio"]}, "body.modalities: cannot be used here: answers are text"),
        ({"colour": 1}, "body.colour: is not known"),
        ({"model": None}, "body.model: is missing"),
    ],
)
def test_a_refused_field_is_named_with_the_reason(body: dict[str, Any], problem: str) -> None:
    assert problems_of(line(said("user", "q"), **body)) == (problem,)


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "body.messages: the last message must be a user message: it is the request"),
        ([SYSTEM], "body.messages: the last message must be a user message: it is the request"),
        (
            [said("user", "q"), said("assistant", "a")],
            "body.messages: the last message must be a user message: it is the request",
        ),
        ([SYSTEM, said("user", " \n")], "body.messages: the last user message is empty"),
        (
            [said("user", [{"type": "text", "text": "q"}, {"type": "image_url"}])],
            "body.messages.0.content: part 1 is no text: only text can be used here",
        ),
        ([said("user", None)], "body.messages.0.content: is missing"),
        ([said("user", "q", colour=1)], "body.messages.0.colour: is not known"),
        (
            [said("user", "q"), said("assistant", None, tool_calls=[{"id": "c1"}]), said("user", "r")],
            "body.messages.1: has tool_calls, which cannot be used here",
        ),
        (
            [said("user", "q"), said("tool", "t", tool_call_id="c1"), said("user", "r")],
            "body.messages.1: is a tool's, which cannot be used here",
        ),
    ],
)
def test_a_refused_message_is_named_with_the_reason(messages: list[Any], problem: str) -> None:
    assert problems_of(line(*messages)) == (problem,)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"url": "/v1/embeddings"}, "url: only chat completions can be run here"),
        ({"url": "/v1/responses"}, "url: only chat completions can be run here"),
        ({"method": "GET"}, "method: input should be 'POST'"),
        ({"body": None}, "body: is missing"),
        ({"body": []}, "body: must be an object"),
        ({"body": {"model": "m", "messages": "q"}}, "body.messages: must be a list"),
        ({"body": {"model": "m", "messages": ["q"]}}, "body.messages.0: must be an object"),
        ({"custom_id": None}, "custom_id: is missing"),
        ({"colour": "red"}, "colour: is not known"),
    ],
)
def test_a_bad_line_names_the_field(fields: dict[str, Any], problem: str) -> None:
    assert problems_of(line(said("user", "q")) | fields) == (problem,)


def test_no_problem_shows_what_was_written() -> None:
    bad = line(said("user", [{"type": "secret"}]), said("secret", "secret"), temperature="secret")
    assert "secret" not in str(problems_of(bad | {"url": "https://secret"}))
