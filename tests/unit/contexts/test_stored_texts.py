"""The texts of an encoded context, read as a stream."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_dist.contexts import stored_texts
from rlm_dist.contexts.encoding import encode, encode_files
from rlm_dist.contexts.stored_texts import read_texts

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


def texts_of(folder: Path, context: Any) -> list[str]:
    """The whole texts."""
    path = folder / "context"
    path.write_bytes(b"".join(encode(context).pieces()))
    return joined(path)


def joined(path: Path) -> list[str]:
    parts = list(read_texts(path))
    assert not parts or parts[-1] is None
    texts, text = [], ""
    for part in parts:
        if part is None:
            texts.append(text)
        text = "" if part is None else text + part
    return texts


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_each_kind_of_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(stored_texts, "_PIECE_BYTES", piece)
    monkeypatch.setattr(stored_texts, "_LENGTHS", 2)
    assert texts_of(tmp_path, "häuser \ud800 €𐍈") == ["häuser \ud800 €𐍈"]
    assert texts_of(tmp_path, ["ä", "", "c", "d", "e"]) == ["ä", "", "c", "d", "e"]
    assert texts_of(tmp_path, {"k": "v", "l": "w"}) == ["k", "v", "l", "w"]
    value = ['a\n"b"\\', {"\\n": "\x01\\\\"}, 12]
    assert texts_of(tmp_path, value)[1::2] == ['a\n"b"\\', "\\n", "\x01\\\\"]
    assert texts_of(tmp_path, value)[-1] == "},12]"


def test_the_paths_of_files_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in "ab":
        (tmp_path / "docs" / f"{name}.txt").write_text(f"text {name}")
    path = tmp_path / "context"
    path.write_bytes(b"".join(encode_files([tmp_path / "docs"]).pieces()))
    assert joined(path) == ["text a", "text b"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(strings=st.lists(TEXT, min_size=1), piece=st.integers(1, 9))
def test_the_strings_of_a_json_value_come_as_they_were(
    tmp_path: Path, strings: list[str], piece: int
) -> None:
    whole = stored_texts._PIECE_BYTES
    stored_texts._PIECE_BYTES = piece
    try:
        found = texts_of(tmp_path, [strings, 1])
    finally:
        stored_texts._PIECE_BYTES = whole
    assert found[1::2] == strings
