"""A long JSON text is parsed in short steps, to the same value as by the standard library."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_dist import bounded_json
from rlm_dist.bounded_json import FEW_CHARS, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
)
# Beside text in general, what is hard to cut: escapes of two halves of a character, backslashes, numbers.
PIECES = st.sampled_from(
    [
        "\\ud83d",
        "\\ude00",
        "\\\\",
        '\\"',
        '"',
        "a",
        "\\n",
        "\n",
        "1",
        "-",
        ".5",
        "e+1",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        " ",
    ]
)


@pytest.fixture
def tiny_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_json, "FEW_CHARS", 0)
    monkeypatch.setattr(bounded_json, "_SMALL_CHARS", 4)
    monkeypatch.setattr(bounded_json, "_PIECE_CHARS", 3)


def loaded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return ValueError


def stepped(text: str) -> object:
    try:
        return parse(text)
    except ValueError:
        return ValueError


@pytest.mark.usefixtures("tiny_steps")
class TestSteps:
    @staticmethod
    @given(VALUES, st.booleans(), st.sampled_from([None, 1]))
    def test_values(value: object, ascii_only: bool, indent: int | None) -> None:
        assert parse(json.dumps(value, ensure_ascii=ascii_only, indent=indent)) == value

    @staticmethod
    @given(
        st.lists(PIECES, max_size=12).map("".join),
        st.sampled_from(["{}", '"{}"', '["{}",1]', '{{"a":"{}"}}']),
    )
    def test_what_is_almost_json(pieces: str, frame: str) -> None:
        text = frame.format(pieces)
        assert stepped(text) == loaded(text)

    @staticmethod
    @pytest.mark.parametrize("strict", [True, False])
    def test_control_characters(strict: bool) -> None:
        text = '["a\x01bcdefgh"]'
        if strict:
            with pytest.raises(json.JSONDecodeError):
                parse(text)
        else:
            assert parse(text, strict=False) == ["a\x01bcdefgh"]


@pytest.mark.parametrize("char", ["a", "\n", "\\", "字", "😀"])
def test_no_call_of_the_decoder_sees_a_long_text(char: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder holds the interpreter's lock while it runs."""
    lengths: list[int] = []
    decode = json.JSONDecoder.raw_decode

    def noted(self: json.JSONDecoder, text: str, at: int = 0) -> tuple[Any, int]:
        lengths.append(len(text))
        return decode(self, text, at)

    value = {"content": char * (2 * FEW_CHARS), "usage": {"total_tokens": 3}}
    text = json.dumps(value)
    monkeypatch.setattr(json.JSONDecoder, "raw_decode", noted)
    parsed = parse(text)
    monkeypatch.undo()
    assert parsed == value
    assert max(lengths) <= FEW_CHARS + 2
    assert len(lengths) > 1
