"""The parts of a streamed answer become the body that the same answer would have unstreamed."""

import json
from typing import Any

import pytest

from rlm_dist.llm.streams import is_stream, joined

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def stream(*chunks: object, end: str = "\n\n") -> str:
    """A stream of events that ends as it should."""
    return "".join(f"data: {json.dumps(chunk)}{end}" for chunk in chunks) + f"data: [DONE]{end}"


def part(**fields: object) -> dict[str, object]:
    """A chunk with these fields in its delta."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def message_of(*deltas: dict[str, object]) -> dict[str, Any]:
    """The message that these deltas make."""
    message: dict[str, Any] = joined(stream(*(part(**delta) for delta in deltas)))["choices"][0]["message"]
    return message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("data: {}\n\n", True),
        (": wait\n\ndata: {}", True),
        ("\ufeff\r\nevent: x\r\n", True),
        ('{"choices": []}', False),
        ("", False),
        ("<html>", False),
    ],
)
def test_a_stream_is_known_by_its_beginning(body: str, expected: bool) -> None:
    assert is_stream(body) is expected


def test_thoughts_stay_apart_from_the_answer() -> None:
    message = message_of(
        {"role": "assistant", "content": None, "reasoning_content": "h"},
        {"reasoning_content": "m"},
        {"content": "a"},
        {"content": "b"},
    )
    assert message == {"role": "assistant", "content": "ab", "reasoning_content": "hm"}


def test_tool_calls_are_joined_by_their_index() -> None:
    def begin(index: int, name: str, arguments: str) -> dict[str, object]:
        return {"index": index, "id": f"id-{name}", "function": {"name": name, "arguments": arguments}}

    message = message_of(
        {"tool_calls": [begin(1, "g", "")]},
        {"tool_calls": [begin(0, "f", "{")]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "[]"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
    )
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "id-f", "function": {"name": "f", "arguments": "{}"}},
        {"id": "id-g", "function": {"name": "g", "arguments": "[]"}},
    ]


def test_content_in_parts_is_one_list() -> None:
    """Mistral streams thoughts as parts and then the answer as text."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    message = message_of({"content": [thought]}, {"content": "yes"})
    assert message["content"] == [thought, {"type": "text", "text": "yes"}]


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [], "usage": USAGE},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": USAGE}},
        {"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]},
    ],
    ids=["OpenAI", "Groq", "Moonshot"],
)
def test_the_usage_is_that_of_the_last_chunk(chunk: dict[str, object]) -> None:
    early = {**part(content="x"), "usage": {"prompt_tokens": 3}}
    body = joined(stream(early, chunk, {"choices": [], "usage": None}))
    assert body["usage"] == USAGE
    assert body["choices"][0]["message"]["content"] == "x"


def test_other_fields_and_other_choices() -> None:
    """What the whole answer says about itself is kept; of several choices only the first counts."""
    other = {"choices": [{"index": 1, "delta": {"content": "no"}}]}
    body = joined(stream({"id": "c", "service_tier": "flex", **part(content="yes")}, other))
    assert (body["id"], body["service_tier"]) == ("c", "flex")
    assert [choice["message"]["content"] for choice in body["choices"]] == ["yes"]


def test_the_plain_route_streams_texts() -> None:
    chunks = [{"choices": [{"text": text, "finish_reason": None}]} for text in ("a", "b")]
    assert joined(stream(*chunks))["choices"][0]["text"] == "ab"


def test_a_whole_message_at_the_end_takes_the_place_of_its_parts() -> None:
    last = {"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}
    assert joined(stream(part(content="a"), last))["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_line_ends_of_the_standard(end: str) -> None:
    """Others, such as U+2028, are text."""
    text = "a\u2028b\u0085c"
    raw = stream(part(content=text), end=end).replace("\\u2028", "\u2028")
    assert joined(raw)["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (stream(part(content="x")).removesuffix("data: [DONE]\n\n"), "the stream ended before"),
        ("data: {}\n\n: keep-alive\n\n", "the stream ended before"),
        ('data: {"choices": [{"delta": {"con', "the stream ended before"),
        ('event: error\ndata: {"message": "no GPU"}\n\n', "no GPU"),
        ('data: {"object": "error", "message": "no GPU", "code": 500}\n\n', "no GPU"),
        (stream(part(content="x"), {"error": {"message": "no GPU"}}), "no GPU"),
    ],
)
def test_an_error_or_an_early_end_takes_the_place_of_the_answer(body: str, words: str) -> None:
    answer = joined(body)
    assert "choices" not in answer
    assert words in json.dumps(answer["error"])


def test_a_finish_reason_ends_an_answer_without_the_last_event() -> None:
    chunk = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}
    assert joined(f"data: {json.dumps(chunk)}")["choices"][0]["finish_reason"] == "stop"


def test_a_stream_without_parts_has_no_choices() -> None:
    assert joined(stream())["choices"] == []
