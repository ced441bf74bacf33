"""Values as contexts: the encoded form, the facts recorded about it, and what is refused."""

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_dist.contexts.encoding import check_value, encode
from rlm_dist.errors import InputError
from rlm_dist.schema import ContextInfo
from tests.support.context_decoder import decode

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=20,
)


def back(value: object) -> object:
    """The value that the REPL would show for an encoded one."""
    header, texts = decode(b"".join(encode(value).pieces()))
    if header["kind"] == "str":
        return texts[0]
    if header["kind"] == "list":
        return texts
    if header["kind"] == "dict":
        return dict(zip(texts[::2], texts[1::2], strict=True))
    return json.loads(texts[0])


def is_empty(value: object) -> bool:
    """Whether the value holds no character of text and nothing but text."""
    parts = [part for pair in value.items() for part in pair] if isinstance(value, dict) else value
    return value is None or value == "" or (isinstance(parts, list) and all(part == "" for part in parts))


@given(st.one_of(ANY_TEXT, st.lists(ANY_TEXT), st.dictionaries(ANY_TEXT, ANY_TEXT), ANY_JSON))
def test_every_value_comes_back_or_is_empty(value: object) -> None:
    if is_empty(value):
        for refuses in (encode, check_value):
            with pytest.raises(InputError, match="context: is empty"):
                refuses(value)
    else:
        check_value(value)
        assert back(value) == value


@given(ANY_TEXT.filter(bool))
def test_the_reference_tells_hash_and_size_of_the_bytes(text: str) -> None:
    encoded = encode([text, "x"])
    data = b"".join(encoded.pieces())
    assert data == b"".join(encoded.pieces())
    assert (encoded.ref.sha256, encoded.ref.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert encoded.ref.info.chars == len(text) + 1


def test_the_encoded_form_is_the_one_of_the_page() -> None:
    assert b"".join(encode(["a", "é"]).pieces()) == (
        b'{"v":1,"kind":"list","n":2,"several":false,"named":false}\n'
        b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0a\xc3\xa9"
    )


@pytest.mark.parametrize(
    ("value", "info"),
    [
        ("día", ContextInfo(kind="str", chars=3, items=1)),
        (["ab", "", "c"], ContextInfo(kind="list", chars=3, items=3, sizes=(2, 0, 1))),
        (("ab", "c"), ContextInfo(kind="list", chars=3, items=2, sizes=(2, 1))),
        ({"key": "value", "k": ""}, ContextInfo(kind="dict", chars=9, items=2, sizes=(5, 0))),
        ([{"a": 1}, 2], ContextInfo(kind="json", chars=11, items=2)),
        ({"a": 1}, ContextInfo(kind="json", chars=7, items=1)),
        (42, ContextInfo(kind="json", chars=2, items=1)),
        (False, ContextInfo(kind="json", chars=5, items=1)),
    ],
)
def test_what_is_known_of_a_context(value: object, info: ContextInfo) -> None:
    assert encode(value).ref.info == info


def test_a_long_list_is_known_by_its_first_sizes() -> None:
    info = encode(["x"] * 100_000).ref.info
    assert (info.items, info.chars, info.sizes) == (100_000, 100_000, (1,) * 10)


@pytest.mark.parametrize("value", [None, "", [], (), {}, [""], ["", ""], {"": ""}])
def test_an_empty_context_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"^context: is empty$"):
        encode(value)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"bytes", "bytes"),
        ([1, {"a": object()}], "object"),
        ({"a": {1, 2}}, "set"),
        ({(1, 2): 3}, "tuple"),
        ([math.nan], "NaN|nan|float"),
        ([-math.inf], "-Infinity|inf|float"),
        ([10**5000], "digits"),
    ],
)
def test_what_is_no_json_value_is_refused(value: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        encode(value)


def test_a_deeply_nested_or_circular_value_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="nested too deeply"):
        encode(deep)
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(InputError, match="not a JSON value"):
        encode(circle)
