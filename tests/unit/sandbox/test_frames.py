"""The frame reader and the validator, fed with anything: a message, a clean end, or one kind of error."""

import contextlib
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_dist import json_schemas
from rlm_dist.errors import SandboxError
from rlm_dist.sandbox import messages
from rlm_dist.sandbox.inside.frames import MAX_FRAME, MAX_SCHEMA_BYTES, FrameError, clean, pack, receive
from rlm_dist.sandbox.messages import CellDone, HandedIn, QueryAsked, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
HONEST: list[dict[str, object]] = [
    {"op": "ready"},
    {"op": "broken", "detail": "x"},
    {"op": "query", "id": 1, "prompts": [[{"role": "user", "content": "q"}]], "model": None},
    {
        "op": "done",
        "cell": 1,
        "output": {"head": "h", "tail": "", "omitted": 0},
        "error": None,
        "final": {"text": "5", "json": "5", "by": "FINAL"},
        "partial": None,
        "names": ["x"],
    },
    {"op": "resolved", "found": False, "final": None, "names": []},
    {
        "op": "query",
        "id": 2,
        "prompts": [[{"role": "user", "content": "q"}]],
        "model": None,
        "schema": {"type": "string"},
    },
    {
        "op": "query",
        "id": 3,
        "prompts": [[{"role": "user", "content": "q"}], [{"role": "user", "content": "r"}]],
        "model": None,
        "ahead": True,
    },
    {
        "op": "done",
        "cell": 1,
        "output": {"head": "h", "tail": "", "omitted": 0},
        "error": None,
        "final": None,
        "partial": None,
        "names": [],
        "unused": 31,
    },
]


def in_pieces(data: bytes, size: int) -> Callable[[int], bytes]:
    """A reader that returns at most ``size`` bytes at a time."""
    stream = io.BytesIO(data)
    return lambda n: stream.read(min(n, size))


@given(
    st.lists(st.dictionaries(st.text(), st.text() | st.integers(), max_size=3), max_size=3), st.integers(1, 9)
)
def test_what_is_packed_is_received_however_it_is_cut(messages: list[dict[str, object]], size: int) -> None:
    read = in_pieces(b"".join(pack(message) for message in messages), size)
    for message in messages:
        payload = receive(read)
        assert payload is not None
        assert json.loads(payload) == message
    assert receive(read) is None


@given(st.text(st.characters(), max_size=20))
def test_lone_surrogates_never_get_into_a_frame(text: str) -> None:
    payload = pack({"a": text})[4:]
    assert json.loads(payload.decode("utf-8")) == {"a": clean(text)}


@given(st.binary(max_size=40))
@example(b"\0\0\0\0")
@example(b"\0\0\0\x05ab")
@example(b"\xff\xff\xff\xff")
@example(b"\0\0")
def test_any_bytes_give_frames_or_one_kind_of_error(data: bytes) -> None:
    read = in_pieces(data, 7)
    taken = 0
    try:
        while (payload := receive(read)) is not None:
            taken += 4 + len(payload)
    except FrameError:
        return
    assert taken == len(data)


def test_a_claimed_length_takes_no_memory_before_its_bytes_have_come() -> None:
    asked: list[int] = []

    def read(n: int) -> bytes:
        asked.append(n)
        return MAX_FRAME.to_bytes(4, "big") if len(asked) == 1 else b""

    with pytest.raises(FrameError):
        receive(read)
    assert max(asked) <= 1 << 20


def test_too_large_a_frame_is_refused_before_it_is_sent() -> None:
    with pytest.raises(FrameError):
        pack({"a": "x" * MAX_FRAME})


@pytest.mark.parametrize("message", HONEST)
def test_an_honest_message_is_taken(message: dict[str, object]) -> None:
    assert parse(json.dumps(message).encode()).op == message["op"]


@given(st.sampled_from(HONEST), st.data())
def test_a_changed_message_is_taken_or_refused_and_nothing_else(
    message: dict[str, object], data: st.DataObject
) -> None:
    changed = dict(message)
    name = data.draw(st.sampled_from([*message, "extra"]))
    changed[name] = data.draw(JSON)
    try:
        taken = parse(json.dumps(changed).encode())
    except SandboxError:
        return
    assert name != "extra"
    assert taken.op == changed["op"]


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_payload_is_a_message_or_a_sandbox_error(payload: bytes) -> None:
    with contextlib.suppress(SandboxError):
        assert parse(payload).op in {"ready", "broken", "query", "done", "resolved"}


def test_a_refusal_does_not_show_the_prompt() -> None:
    hostile = {"op": "query", "id": "x", "prompts": [[{"role": "user", "content": "SECRET"}]], "model": None}
    with pytest.raises(SandboxError) as refused:
        parse(json.dumps(hostile).encode())
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("depth", [500, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(SandboxError):
        parse(b'{"op": "ready", "x": ' + b"[" * depth + b"]" * depth + b"}")


def test_numbers_are_not_taken_for_texts_nor_booleans_for_numbers() -> None:
    taken = parse(json.dumps(HONEST[2]).encode())
    assert isinstance(taken, QueryAsked)
    with pytest.raises(SandboxError):
        parse(json.dumps({**HONEST[2], "id": True}).encode())
    with pytest.raises(SandboxError):
        parse(json.dumps({**HONEST[2], "model": 5}).encode())


@given(JSON)
def test_the_value_of_an_answer_comes_through(value: object) -> None:
    handed_in = HandedIn.model_validate({"text": "t", "json": json.dumps(value), "by": "FINAL"})
    assert handed_in.value() == ("t", _without_surrogates(value), "FINAL")


def _without_surrogates(value: object) -> object:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None
    return value


def test_the_host_cuts_output_that_the_child_did_not() -> None:
    message = {**HONEST[3], "output": {"head": "h" * 50, "tail": "t" * 50, "omitted": 7}}
    done = parse(json.dumps(message).encode())
    assert isinstance(done, CellDone)
    clipped = done.output.clipped(60)
    assert (clipped.head, clipped.tail, clipped.omitted) == ("h" * 50, "t" * 10, 47)


USER = {"role": "user", "content": "q"}
LONG = "x" * 10_000_000


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (1, {"detail": LONG}),
        (2, {"prompts": [[USER]] * 257}),
        (2, {"prompts": [[USER] * 1001]}),
        (2, {"model": "m" * 201}),
        (2, {"id": 10**30}),
        (3, {"error": "x" * 8001}),
        (3, {"names": ["x"] * 101}),
        (3, {"names": ["x" * 201]}),
        (3, {"partial": "x" * ((1 << 20) + 1)}),
        (3, {"final": {"text": LONG, "json": None, "by": "FINAL"}}),
        (3, {"final": {"text": "x", "json": "1" * ((1 << 20) + 1), "by": "FINAL"}}),
        (3, {"output": {"head": "", "tail": "", "omitted": 10**30}}),
        (3, {"cell": 10**30}),
        (4, {"names": ["x" * 201]}),
    ],
)
def test_each_field_has_a_bound(kind: int, changes: dict[str, object]) -> None:
    with pytest.raises(SandboxError):
        parse(json.dumps({**HONEST[kind], **changes}).encode())


@pytest.mark.parametrize(
    "values",
    [
        "[" + "[0]," * 1_000_000 + "0]",
        "[" + "0," * 8_000_000 + "0]",
        '["' + "],[" * 10**6 + '"' + ",[0]" * 10**6 + "]",
    ],
)
def test_a_frame_of_very_many_values_is_refused_before_it_is_read(
    values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As values they would take many times the memory of their bytes."""
    monkeypatch.setattr(messages, "_MESSAGE", None)
    with pytest.raises(SandboxError, match="too many values"):
        parse(b'{"op": "ready", "x": ' + values.encode() + b"}")


def test_a_text_without_an_end_is_refused_soon() -> None:
    """Looking for its end again at each of its quotes would take hours."""
    with pytest.raises(SandboxError):
        parse(b'{"op": "ready", "x": "' + b"[" * 100_000 + b'\\"' * 1_000_000)


def test_a_text_full_of_brackets_and_commas_is_one_value() -> None:
    content = '[[{"a": [1, 2, 3,]}, {}, \\"],[' * 200_000
    taken = parse(json.dumps({**HONEST[2], "prompts": [[{"role": "user", "content": content}]]}).encode())
    assert isinstance(taken, QueryAsked)
    assert taken.prompts[0][0].content == content


def test_the_memory_of_a_query_is_that_of_its_texts_and_objects() -> None:
    def cost(prompts: object) -> int:
        taken = parse(json.dumps({**HONEST[2], "prompts": prompts}).encode())
        assert isinstance(taken, QueryAsked)
        return taken.cost

    def text(content: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": content}]

    assert cost([text("x" * 1000)]) > 1000
    assert cost([text("x" * 1000 + "\U0001f600")]) > 4000
    assert cost([text("x")] * 200) > 200 * 300


def _with_schema(schema: object) -> bytes:
    """A query frame's payload with this schema."""
    return json.dumps({**HONEST[2], "schema": schema}).encode()


@pytest.mark.parametrize("schema", [3, [], "x", {"description": "x" * MAX_SCHEMA_BYTES}])
def test_a_schema_that_no_honest_process_sends_is_hostile(schema: object) -> None:
    with pytest.raises(SandboxError):
        parse(_with_schema(schema))


def test_a_schema_counts_as_memory_and_is_checked() -> None:
    assert MAX_SCHEMA_BYTES == json_schemas.MAX_SCHEMA_BYTES
    plain, typed = parse(_with_schema(None)), parse(_with_schema({"enum": [[]] * 10_000}))
    assert isinstance(plain, QueryAsked)
    assert isinstance(typed, QueryAsked)
    assert typed.cost > plain.cost + 1_000_000
    assert (plain.schema_problem, typed.schema_problem) == (None, None)
    bad = parse(_with_schema({"type": "x"}))
    assert isinstance(bad, QueryAsked)
    assert "not a JSON Schema" in (bad.schema_problem or "")


def _values(value: object) -> int:
    """The texts of a value, and what stands before its values: brackets and commas."""
    if isinstance(value, str):
        return 1
    if isinstance(value, list):
        return 1 + max(len(value) - 1, 0) + sum(map(_values, value))
    if isinstance(value, dict):
        return 1 + max(len(value) - 1, 0) + len(value) + sum(map(_values, value.values()))
    return 0


@given(JSON)
@example(["\\", '\\"', '"[', "[{,", '\\\\",'])
def test_values_are_counted_as_they_are_whatever_is_in_texts(value: object) -> None:
    """With a limit of as many, it is not refused; with a limit of one fewer, it is."""
    payload = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "_MAX_MARKS", -1)
        for most, refused in ((_values(value), False), (_values(value) - 1, True)):
            patch.setattr(messages, "_MAX_TOKENS", most)
            assert messages._has_too_many_values(payload) is refused
