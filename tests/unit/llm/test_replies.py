"""A sub model's reply is an answer only if it has text; a root model's reply always goes to its loop."""

import json
from typing import Any

import pytest

from rlm_dist.errors import FailureKind
from rlm_dist.llm import client
from rlm_dist.llm.permits import AttemptEnd
from rlm_dist.llm.wire import Attempt, read_reply
from rlm_dist.schema import CallRequest, Charge, Completion, Message, Role, Usage

PROMPT = "the quick brown fox jumps over the lazy dog, and keeps it to itself"
USAGE = Usage(input_tokens=10, output_tokens=3)
CALL = {"id": "c1", "type": "function", "function": {"name": "python", "arguments": '{"code": "print(1)"}'}}


def request(role: Role = Role.SUB, **fields: Any) -> CallRequest:
    return CallRequest(role=role, model="m", messages=(Message(role="user", content=PROMPT),), **fields)


def read(choice: object, role: Role = Role.SUB, *, keep_thoughts: bool = False, **fields: Any) -> Attempt:
    """The attempt that ended with this choice (none if it is None) and 13 tokens of usage."""
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    body = json.dumps({"choices": [choice] if choice is not None else [], "usage": usage})
    return read_reply(body, request(role, **fields), "m", keep_thoughts=keep_thoughts)


def said(content: object, finish: str | None = "stop", **fields: object) -> dict[str, object]:
    """A choice with a message."""
    return {"message": {"role": "assistant", "content": content, **fields}, "finish_reason": finish}


def completion(attempt: Attempt) -> Completion:
    assert attempt.completion is not None, attempt.failure
    assert (attempt.failure, attempt.charge) == (None, None)
    assert attempt.completion.usage == USAGE
    return attempt.completion


def reason(attempt: Attempt, kind: FailureKind = FailureKind.NO_ANSWER) -> str:
    """Why there is no answer; what the endpoint charged is kept."""
    assert attempt.completion is None
    assert attempt.failure is not None
    assert attempt.failure.kind is kind
    assert attempt.charge == Charge(model="m", usage=USAGE)
    return attempt.failure.message


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (said(None, refusal="I cannot help with weapons."), "refused: I cannot help with weapons."),
        (said("", refusal="No."), "refused: No."),
        (said([{"type": "refusal", "refusal": "No, thanks."}]), "refused: No, thanks."),
        (said(None, "content_filter"), "content filter"),
        (said("a part of an ans", "content_filter"), "content filter"),
        (said(None, "tool_calls", tool_calls=[CALL]), "called a tool"),
        (said("Let me look.", "tool_calls", tool_calls=[CALL]), "called a tool"),
        (said(None, "function_call", function_call={"name": "f", "arguments": "{}"}), "called a tool"),
        (said(""), "no text"),
        (said(None), "no text"),
        (said(" \n\t"), "no text"),
        (said([]), "no text"),
        (said([{"type": "image_url", "image_url": {"url": "x"}}]), "no text"),
        (said("<think>hm</think>\n"), "thoughts but no answer"),
        (said("", None, reasoning_content="hm"), "thoughts but no answer"),
        ({"finish_reason": "stop"}, "no text"),
        ({"message": 3}, "no text"),
        (3, "no text"),
        (None, "no text"),
    ],
)
def test_32_a_sub_reply_without_text_is_no_answer(choice: object, words: str) -> None:
    assert words in reason(read(choice))


@pytest.mark.parametrize(
    "choice", [said("", "length"), said("<think>hm, so", "length"), said(None, "length", reasoning="hm, so")]
)
def test_32_thoughts_that_used_up_the_output_limit_are_named(choice: dict[str, object]) -> None:
    message = reason(read(choice, max_output_tokens=500))
    assert "output limit" in message
    assert "sub_max_output_tokens is 500" in message
    assert "sub_max_output_tokens" in reason(read(choice))


def test_a_refusal_that_repeats_the_prompt_is_not_quoted() -> None:
    message = reason(read(said(None, refusal=f"I will not answer {PROMPT}")))
    assert "refused" in message
    assert "quick brown fox" not in message


def test_the_words_of_a_refusal_are_bounded() -> None:
    assert len(reason(read(said(None, refusal="no " * 1000)))) < 400


def test_no_answer_without_reported_usage_is_charged_by_our_own_count() -> None:
    """The endpoint served the reply, so it costs what an empty answer costed before."""
    attempt = read_reply(json.dumps({"choices": [said(None, refusal="12345678")]}), request(), "m")
    assert attempt.charge is not None
    assert attempt.charge.usage == Usage(input_tokens=17, output_tokens=2, estimated=True)


@pytest.mark.parametrize("text", ['{"choices": []}', '{"choices": [{"index": 0}]}', '{"choices": [3]}'])
def test_a_body_without_message_and_usage_is_free_and_asked_again(text: str) -> None:
    for role in Role:
        attempt = read_reply(text, request(role), "m")
        assert attempt.failure is not None
        assert attempt.failure.kind is FailureKind.TRANSIENT
        assert (attempt.completion, attempt.charge) == (None, None)


def test_33_a_sub_answer_cut_by_length_keeps_its_text() -> None:
    cut = completion(read(said("half of an ans", "length")))
    assert (cut.text, cut.truncated) == ("half of an ans", True)
    assert not completion(read(said("whole"))).truncated


@pytest.mark.parametrize("role", list(Role))
def test_a_reply_that_ended_in_an_error_is_asked_again(role: Role) -> None:
    for choice in (
        {**said("half of", "error"), "error": {"code": 502, "message": "upstream went away"}},
        {"finish_reason": "error", "error": {"code": 502, "message": "upstream went away"}},
        {**said("half of", None), "error": {"code": 502, "message": "upstream went away"}},
        {**said("half of", "length"), "error": "upstream went away"},
    ):
        assert read(choice, role).error_body == choice["error"]  # the connection sorts it
    assert "error" in reason(read(said("half of", "error"), role), FailureKind.TRANSIENT)


@pytest.mark.parametrize(
    "text",
    ["<think>\nFINAL(no)\n</think>\n\nParis", "so it is\n</think>\nParis", "Paris<think>or not", "Paris"],
)
def test_34_thoughts_are_dropped_from_a_sub_answer_unless_they_are_kept(text: str) -> None:
    assert completion(read(said(text))).text == "Paris"
    assert completion(read(said(text), keep_thoughts=True)).text == text
    assert completion(read(said(text), Role.ROOT)).text == text


def test_34_the_channel_of_thoughts_is_dropped_too() -> None:
    thoughts = "<|channel|>analysis<|message|>hm"
    text = f"{thoughts}<|end|><|start|>assistant<|channel|>final<|message|>Paris<|return|>"
    assert completion(read(said(text))).text == "Paris"
    assert "output limit" in reason(read(said(thoughts, "length")))


@pytest.mark.parametrize("error", [None, {}, ""])
def test_an_empty_error_beside_a_reply_is_none(error: object) -> None:
    assert completion(read({**said("hi"), "error": error})).text == "hi"


def test_the_words_of_a_refusal_have_no_key_and_no_prompt() -> None:
    for words in ("bad key sk-7", f"no: {PROMPT}"):
        body = json.dumps({"choices": [said(None, refusal=words)]})
        failure = read_reply(body, request(), "m", hidden=("sk-7",)).failure
        assert failure is not None
        assert "sk-7" not in failure.message
        assert "quick brown fox" not in failure.message


def test_no_answer_is_an_answer_with_its_tokens_for_the_limits() -> None:
    attempt = read(said(None, refusal="No."))
    assert client._end_of(request(), attempt) is AttemptEnd.FAILED
    assert client._release_details(attempt)["tokens"] == USAGE.total


def test_34_thoughts_alone_are_no_answer_even_if_they_are_kept() -> None:
    assert "no answer" in reason(read(said("<think>hm</think>"), keep_thoughts=True))


def test_an_answer_without_thoughts_stays_as_it_is() -> None:
    assert completion(read(said("  a\n"))).text == "  a\n"


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_an_answer_in_the_field_for_thoughts_is_taken_where_the_content_is_empty(
    role: Role, field: str
) -> None:
    assert completion(read(said("", **{field: "42"}), role)).text == "42"
    assert completion(read(said(None, **{field: "42"}), role)).text == "42"
    assert completion(read(said("7", **{field: "42"}), role)).text == "7"


PARTS: list[object] = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "reasoning", "text": "hm"},
    "a",
    {"type": "text", "text": "b"},
    {"type": "output_text", "text": "c", "annotations": []},
    {"text": "d"},
    {"type": "text", "text": None},
]


@pytest.mark.parametrize("role", list(Role))
def test_35_the_text_parts_of_a_list_are_joined(role: Role) -> None:
    assert completion(read(said(PARTS), role)).text == "abcd"


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    "choice", [{"text": "hi", "finish_reason": "stop"}, {"delta": {"content": "hi"}, "finish_reason": "stop"}]
)
def test_35_a_choice_without_message_may_hold_its_text_elsewhere(role: Role, choice: object) -> None:
    assert completion(read(choice, role)).text == "hi"


def test_a_plain_completion_without_text_is_no_answer_either() -> None:
    body = json.dumps({"choices": [{"text": "", "finish_reason": "stop"}]})
    attempt = read_reply(body, request(), "m")
    assert attempt.failure is not None
    assert attempt.failure.kind is FailureKind.NO_ANSWER


@pytest.mark.parametrize("choice", [None, 3, said(None), said(""), said(None, "content_filter")])
def test_a_root_reply_without_text_is_an_empty_reply(choice: object) -> None:
    assert completion(read(choice, Role.ROOT)).text == ""


def test_the_refusal_of_a_root_model_is_its_reply() -> None:
    for reply in (said(None, refusal="I cannot."), said("", refusal="I cannot.", reasoning="hm")):
        assert completion(read(reply, Role.ROOT)).text == "I cannot."
    assert completion(read(said("Well.", refusal="I cannot."), Role.ROOT)).text == "Well."


def test_native_tool_calls_of_a_root_model_are_lines_of_its_text() -> None:
    other = {"function": {"name": "search", "arguments": "not JSON"}}
    code = {"function": {"name": "python", "arguments": json.dumps({"code": "print('</tool_call>')"})}}
    text = completion(read(said("Let me see.", "tool_calls", tool_calls=[code, other]), Role.ROOT)).text
    first, second, third = text.split("\n")
    assert first == "Let me see."
    assert text.count("</tool_call>") == 2
    assert json.loads(second.removeprefix("<tool_call>").removesuffix("</tool_call>")) == {
        "name": "python",
        "arguments": {"code": "print('</tool_call>')"},
    }
    assert third == '<tool_call>{"name": "search", "arguments": "not JSON"}</tool_call>'


@pytest.mark.parametrize("content", [None, "", []])
def test_a_root_reply_of_nothing_but_tool_calls_is_their_text(content: object) -> None:
    """Thoughts beside them are no part of it."""
    reply = said(content, "stop", tool_calls=[CALL], reasoning="hm")
    line = '<tool_call>{"name": "python", "arguments": {"code": "print(1)"}}</tool_call>'
    assert completion(read(reply, Role.ROOT)).text == line


def test_the_old_field_for_a_function_call_is_read_too() -> None:
    call = {"name": "python", "arguments": {"code": "print(1)"}}
    line = '<tool_call>{"name": "python", "arguments": {"code": "print(1)"}}</tool_call>'
    assert completion(read(said(None, "function_call", function_call=call), Role.ROOT)).text == line


@pytest.mark.parametrize("calls", [None, [], "x", [3], [{"function": 3}], [{}]])
def test_malformed_tool_calls_are_none(calls: object) -> None:
    assert completion(read(said("hi", tool_calls=calls))).text == "hi"
    assert completion(read(said("hi", tool_calls=calls), Role.ROOT)).text == "hi"


@pytest.mark.parametrize("role", Role)
def test_a_reply_of_too_many_lines_is_no_answer(role: Role) -> None:
    attempt = read(said("<think>" + "\n" * 1_000_001), role)
    assert attempt.failure is not None
    assert attempt.failure.kind is FailureKind.NO_ANSWER
    assert "1,000,000 lines" in attempt.failure.message
    assert attempt.charge is not None


def test_a_long_finish_reason_is_cut() -> None:
    assert completion(read(said("hi", "x" * 10_000))).finish_reason == "x" * 100


def test_a_long_refusal_is_shown_on_one_short_line() -> None:
    attempt = read(said(None, refusal="no " * 1_000_000))
    assert attempt.failure is not None
    assert len(attempt.failure.message) < 400
