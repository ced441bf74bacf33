"""JSON Schemas in chat requests: how they are sent, when as strict, and what is learnt from refusals."""

from typing import Any

import pytest

from rlm_dist.llm.error_bodies import read_error
from rlm_dist.llm.request_dialects import Dialect
from rlm_dist.llm.wire import chat_body, plain_body
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.worker.call_ids import CallIds

STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def ask(schema: dict[str, Any] | None, **fields: Any) -> CallRequest:
    """A sub-call for an answer of this schema."""
    messages = (Message(role="user", content="q"),)
    return CallRequest(role=Role.SUB, model="m", messages=messages, response_schema=schema, **fields)


def body(schema: dict[str, Any] | None = STRICT, **fields: Any) -> dict[str, Any]:
    """The body of such a call."""
    return chat_body(ask(schema, **fields), "m")


def test_the_schema_is_sent_on_the_chat_route_alone_and_wins_over_the_extra_body() -> None:
    field = body(extra_body={"response_format": {"type": "text"}})["response_format"]
    assert field["type"] == "json_schema"
    assert field["json_schema"]["schema"] == STRICT
    assert "response_format" not in plain_body(ask(STRICT), "m")
    assert "response_format" not in body(None)


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (STRICT, True),
        ({**STRICT, "required": []}, False),
        ({**STRICT, "additionalProperties": True}, False),
        ({**STRICT, "minProperties": 1}, False),
        ({**STRICT, "properties": {"n": {"type": "array", "items": {"type": "object"}}}}, False),
        ({**STRICT, "properties": {"n": {"anyOf": [STRICT, {"type": "null"}]}}}, True),
        ({**STRICT, "$defs": {"a": {"type": "object"}}}, False),
        ({"type": "array", "items": STRICT}, False),
        ({}, False),
    ],
)
def test_a_schema_is_strict_if_strict_modes_take_it(schema: dict[str, Any], strict: bool) -> None:
    assert body(schema)["response_format"]["json_schema"]["strict"] is strict


@pytest.mark.parametrize(
    "text",
    [
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "This response_format type is unavailable now",
        "'response_format.type' must be one of: text, json_object",
        "This model does not support response format `json_schema`.",
        "Unrecognized request argument supplied: response_format",
    ],
)
def test_an_endpoint_without_the_mode_gets_no_schema_again(text: str) -> None:
    learnt = Dialect().learnt(read_error({"error": {"message": text}}), body())
    assert learnt is not None
    for other in (STRICT, {"type": "array"}):
        assert learnt.dropped(body(other)) == ("response_format",)
        assert "response_format" not in learnt.translated(body(other))


@pytest.mark.parametrize(
    "text",
    [
        "Invalid schema for response_format 'x': schema must be a JSON Schema of 'type: \"object\"'.",
        "failed to parse grammar",
        "The provided JSON schema contains features not supported by the backend.",
    ],
)
def test_a_schema_that_is_refused_is_left_out_and_others_are_sent(text: str) -> None:
    sent = body({"type": "array"})
    learnt = Dialect().learnt(read_error({"error": {"message": text}}), sent)
    assert learnt is not None
    assert "response_format" not in learnt.translated(sent)
    assert learnt.translated(body()) == body()


def test_what_the_user_set_is_never_left_out() -> None:
    own = chat_body(ask(None, extra_body={"response_format": {"type": "json_object"}}), "m")
    error = read_error({"error": {"message": "response_format is not supported"}})
    assert Dialect().learnt(error, own) is None
    assert "response_format" in Dialect(refused=frozenset({"response_format"})).translated(own)


def test_another_refusal_leaves_the_schema() -> None:
    error = read_error({"error": {"message": "temperature is not supported"}})
    learnt = Dialect().learnt(error, body(temperature=0.5))
    assert learnt is not None
    assert "response_format" in learnt.translated(body(temperature=0.5))
    assert Dialect().learnt(read_error({"error": {"message": "no"}}), body()) is None


def test_a_call_without_a_schema_keeps_its_id_and_its_stored_form() -> None:
    """The id is that of the version before schemas."""
    assert "response_schema" not in ask(None).model_dump_json()
    ids = [CallIds("j").name(ask(schema)) for schema in (None, STRICT, {"type": "array"})]
    assert len(set(ids)) == 3
    assert CallRequest.model_validate_json(ask(STRICT).model_dump_json()).response_schema == STRICT
    assert ask(STRICT).expected.input_tokens > ask(None).expected.input_tokens
