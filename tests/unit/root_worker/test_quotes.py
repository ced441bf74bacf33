"""Quotes are found in the context by code, with white space made equal."""

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_dist.errors import Cancelled
from rlm_dist.root_worker import quotes
from rlm_dist.root_worker.quotes import missing, quotes_at

WORDS = st.text("ab \n\t\u3000", min_size=1, max_size=40)


def nothing() -> None:
    """Go on."""


def lost(wanted: list[str], *texts: str, piece: int = 1000) -> list[str]:
    """The quotes that are missing in these texts, which come in pieces."""

    def pieces() -> Iterator[str | None]:
        for text in texts:
            yield from (text[start : start + piece] for start in range(0, len(text), piece))
            yield None

    return missing(wanted, pieces(), nothing)


@given(parts=st.tuples(WORDS, WORDS, WORDS), piece=st.integers(1, 5), window=st.integers(1, 9))
def test_any_part_of_a_text_is_found_and_a_changed_one_is_not(
    parts: tuple[str, str, str], piece: int, window: int
) -> None:
    quote = f"a{parts[1]}b"
    text = parts[0] + quote + parts[2]
    whole, quotes._WINDOW_CHARS = quotes._WINDOW_CHARS, window
    try:
        assert lost([quote], "first", text, piece=piece) == []
        assert lost([quote.replace(" ", "\n\n")], text, piece=piece) == []
        changed = quote.strip() + "c"
        assert lost([quote, changed], text, text, piece=piece) == [changed]
    finally:
        quotes._WINDOW_CHARS = whole


@pytest.mark.parametrize("quote", ["one two", "two\u00a0\n three", " one\ttwo three "])
def test_white_space_alone_is_made_equal(quote: str) -> None:
    assert lost([quote], "one  two\nthree") == []
    assert lost(["One two", "onetwo", "one, two"], "one  two\nthree") == ["One two", "onetwo", "one, two"]


def test_a_quote_stands_in_one_text() -> None:
    assert lost(["a b"], "a", "b") == ["a b"]
    assert lost(["a b"], "a ", " b") == ["a b"]


def test_a_large_context_takes_little_memory() -> None:
    line = "all work and no play makes a dull boy\n" * 1000

    def pieces() -> Iterator[str | None]:
        for _ in range(2700):  # 100 MB
            yield line
        yield "the end"
        yield None

    tracemalloc.start()
    try:
        assert missing(["dull boy the end", "dull girl"], pieces(), nothing) == ["dull girl"]
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_the_search_can_be_stopped() -> None:
    def stop() -> None:
        raise Cancelled("j")

    with pytest.raises(Cancelled):
        missing(["a"], ["b", None], stop)


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        ("quotes", {"quotes": ["a", "b"]}, ["a", "b"]),
        ("quotes", {"quotes": "a"}, ["a"]),
        ("quotes", {"quotes": []}, []),
        ("items.quote", {"items": [{"quote": "a"}, {"quote": ["b", "c"]}]}, ["a", "b", "c"]),
        ("quote", [{"quote": "a"}], ["a"]),
    ],
)
def test_the_quotes_of_a_field(path: str, answer: object, expected: list[str]) -> None:
    assert quotes_at(path, answer) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer", ["text", {}, {"quotes": None}, {"quotes": [1]}, {"quotes": " "}, {"quotes": {"a": "b"}}, ["a"]]
)
def test_a_field_without_texts_is_refused(answer: object) -> None:
    with pytest.raises(ValueError, match="`quotes`"):
        quotes_at("quotes", answer)  # type: ignore[arg-type]
