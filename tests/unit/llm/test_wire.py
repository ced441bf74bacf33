"""Request bodies; response bodies that are no reply are transient failures. Replies: ``test_replies``."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.wire import chat_body, plain_body, read_models, read_reply
from rlm_dist.schema import CallRequest, Charge, Message, Role, Usage

REQUEST = CallRequest(
    role=Role.SUB,
    model="m",
    messages=(Message(role="system", content="be brief"), Message(role="user", content="12345678")),
)
USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def body(choice: dict[str, Any] | None, usage: object = USAGE) -> str:
    """A response body with one choice or none."""
    return json.dumps({"choices": [choice] if choice else [], "usage": usage})


def test_an_answer_is_read_with_its_usage() -> None:
    said = {"message": {"content": "hi", "reasoning_content": "hm"}, "finish_reason": "length"}
    completion = read_reply(body(said), REQUEST, "m").completion
    assert completion is not None
    assert (completion.text, completion.finish_reason, completion.model) == ("hi", "length", "m")
    assert completion.usage == Usage(input_tokens=10, cached_tokens=4, output_tokens=3)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": -1}, "many"])
def test_missing_usage_is_estimated_and_marked(usage: object) -> None:
    completion = read_reply(body({"message": {"content": "12345"}}, usage), REQUEST, "m").completion
    assert completion is not None
    assert completion.usage == Usage(input_tokens=4, output_tokens=2, estimated=True)


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}])
def test_usage_without_cached_tokens_has_none(details: object) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": details}
    completion = read_reply(body({"message": {"content": "x"}}, usage), REQUEST, "m").completion
    assert completion is not None
    assert completion.usage == Usage(input_tokens=1, output_tokens=1)


@pytest.mark.parametrize(
    "text", [body(None), body({"message": 3}), json.dumps({"choices": None, "usage": USAGE})]
)
def test_a_paid_body_without_a_reply_is_not_asked_for_again(text: str) -> None:
    attempt = read_reply(text, REQUEST, "m")
    assert attempt.failure is not None
    assert attempt.failure.kind is FailureKind.NO_ANSWER
    assert attempt.charge == Charge(model="m", usage=Usage(input_tokens=10, cached_tokens=4, output_tokens=3))


@pytest.mark.parametrize(
    "text", ["", "<html>", '{"choices": [{"mess', "[]", "3", "null", '{"error": "x"}', "[" * 100]
)
def test_anything_else_is_transient_and_free(text: str) -> None:
    attempt = read_reply(text, REQUEST, "m")
    assert attempt.failure is not None
    assert attempt.failure.kind is FailureKind.TRANSIENT
    assert (attempt.completion, attempt.charge) == (None, None)


def test_a_plain_completion_is_read() -> None:
    completion = read_reply(body({"text": " hi", "finish_reason": None}), REQUEST, "m").completion
    assert completion is not None
    assert (completion.text, completion.finish_reason) == (" hi", "unknown")


def test_parameters_are_sent_where_they_are_given() -> None:
    assert set(chat_body(REQUEST, "m")) == {"model", "messages"}
    asked = REQUEST.model_copy(update={"temperature": 0.0, "max_output_tokens": 7})
    assert chat_body(asked, "m")["temperature"] == 0.0
    assert chat_body(asked, "m")["max_tokens"] == 7


@pytest.mark.parametrize("write", [chat_body, plain_body])
def test_effort_and_extra_fields_are_sent_as_they_were_given(
    write: Callable[[CallRequest, str], dict[str, Any]],
) -> None:
    extra = {"top_p": 0.5, "stop": None, "provider": {"order": ["a"]}}
    sent = write(REQUEST.model_copy(update={"reasoning_effort": "low", "extra_body": extra}), "m")
    assert sent["reasoning_effort"] == "low"
    assert {name: sent[name] for name in extra} == extra


@pytest.mark.parametrize(
    ("tier", "extra", "sent"),
    [
        (None, None, None),
        ("flex", None, "flex"),
        ("priority", {"service_tier": "flex", "top_p": 0.5}, "priority"),
        ("default", {"service_tier": "flex", "top_p": 0.5}, None),
        (None, {"service_tier": "auto"}, "auto"),
    ],
)
@pytest.mark.parametrize("write", [chat_body, plain_body])
def test_a_tier_is_sent_unless_it_is_the_default_one(
    write: Callable[[CallRequest, str], dict[str, Any]],
    tier: str | None,
    extra: dict[str, Any] | None,
    sent: str | None,
) -> None:
    body = write(REQUEST.model_copy(update={"tier": tier, "extra_body": extra}), "m")
    assert body.get("service_tier") == sent
    assert body.get("top_p") == (extra or {}).get("top_p")


def test_the_plain_route_gets_a_transcript_and_room_to_answer() -> None:
    sent = plain_body(REQUEST, "m")
    assert sent["prompt"] == "System: be brief\n\nUser: 12345678\n\nAssistant:"
    assert sent["max_tokens"] > 1000
    assert plain_body(REQUEST.model_copy(update={"max_output_tokens": 7}), "m")["max_tokens"] == 7


def test_a_lone_surrogate_is_replaced() -> None:
    request = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content="a\ud800b"),))
    assert chat_body(request, "m")["messages"] == [{"role": "user", "content": "a?b"}]


def test_a_list_of_models_is_read() -> None:
    assert read_models('{"data": [{"id": "a"}, {"id": "b"}]}') == ["a", "b"]
    for text in ("<html>", "{}", '{"data": 3}', '{"data": [3]}', "[]"):
        with pytest.raises(CallError, match="no list of models"):
            read_models(text)
