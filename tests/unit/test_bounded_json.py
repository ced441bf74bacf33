"""JSON of an endpoint is parsed as the standard library does, or not at all if its structure is too large."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_dist import bounded_json
from rlm_dist.bounded_json import MAX_DEPTH, MAX_VALUES, TooComplex, parse

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\,: \nä', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


def depth(value: object) -> int:
    """How many lists and objects are around the innermost one, itself included."""
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(
        (depth(item) for item in (value if isinstance(value, list) else value.values())), default=0
    )


@given(VALUES)
def test_brackets_and_quotes_in_strings_do_not_count(value: object) -> None:
    """The depth and the size that are counted before parsing are those of the parsed value."""
    text = json.dumps([value], ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded_json, "_FEW_CHARS", 0)
        patch.setattr(bounded_json, "MAX_DEPTH", depth([value]))
        assert parse(text) == [value]
        patch.setattr(bounded_json, "MAX_DEPTH", depth([value]) - 1)
        with pytest.raises(TooComplex):
            parse(text)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[1,{"\\"]":'])
def test_depth_is_counted_without_parsing(opening: str) -> None:
    levels = opening.count("[") + opening.count("{")
    closing = "".join({"[": "]", "{": "}"}[sign] for sign in reversed(opening) if sign in "[{")
    fits = MAX_DEPTH // levels
    parse(opening * fits + "1" + closing * fits)
    with pytest.raises(TooComplex, match="more than 100 levels"):
        parse(opening * (fits + 1) + "1" + closing * (fits + 1))
    with pytest.raises(TooComplex, match="more than 100 levels"):
        parse(opening * 10_000)


@pytest.mark.parametrize("item", ["1", "[]", "{}", '""', '"a"'])
def test_values_are_counted_without_parsing(item: str) -> None:
    assert len(parse("[" + ",".join([item] * (MAX_VALUES // 3)) + "]")) == MAX_VALUES // 3
    with pytest.raises(TooComplex, match="more than 1,000,000 values"):
        parse("[" + ",".join([item] * (MAX_VALUES + 1)) + "]")


@pytest.mark.parametrize("text", ["", "[", "]" * 200, "[" * 100, '"', '"' + "[" * 200, "\\" * 5, "{]" * 200])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse(text)


def test_control_characters_are_allowed_on_request() -> None:
    assert parse('"\n"', strict=False) == "\n"
