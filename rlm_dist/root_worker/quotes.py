"""Finds the quotes of an answer in the job's context, by code.

White space alone is made equal: each run of it counts as one space, and at both ends of a quote it does not
count. A quote must stand in one text of the context, so not across two items of a list.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import JsonValue

_WINDOW_CHARS = 1 << 20
_END = "\n"  # between two texts; in no quote, as white space is made equal


def quotes_at(path: str, answer: JsonValue) -> list[str]:
    """The quotes in a field of the answer; ``path`` may lead through objects, and through lists of them.

    Raises:
        ValueError: saying what keeps the field from being a str or a list of str.
    """
    values = [answer]
    for name in path.split("."):
        values = [_field(value, name, path) for value in _flat(values)]
    quotes = [value for value in _flat(values) if isinstance(value, str) and value.strip()]
    if len(quotes) != len(list(_flat(values))):
        raise ValueError(f"`{path}` must be a text or a list of texts, and none of them empty")
    return quotes


def missing(quotes: Iterable[str], texts: Iterable[str | None], go_on: Callable[[], object]) -> list[str]:
    """The quotes that stand in none of the texts, which come in pieces with None after each text.

    ``go_on`` is called now and then, and may raise an error.
    """
    wanted = {quote: " ".join(quote.split()) for quote in quotes}
    overlap = max(map(len, wanted.values()), default=1) - 1
    window = ""
    for piece in _windows(texts):
        if not wanted:
            break
        go_on()
        window += piece
        wanted = {quote: text for quote, text in wanted.items() if text not in window}
        window = window[max(0, len(window) - overlap) :]
    return list(wanted)


def _windows(texts: Iterable[str | None]) -> Iterator[str]:
    parts: list[str] = []
    chars = 0
    for part in _normalised(texts):
        parts.append(part)
        chars += len(part)
        if chars >= _WINDOW_CHARS:
            yield "".join(parts)
            parts, chars = [], 0
    yield "".join(parts)


def _normalised(texts: Iterable[str | None]) -> Iterator[str]:
    """The texts with single spaces, and an end after each."""
    space = False
    for piece in texts:
        if piece is None:
            yield _END
            space = False
            continue
        words = " ".join(piece.split())
        if words:
            yield f" {words}" if space or piece[0].isspace() else words
            space = piece[-1].isspace()
        else:
            space = space or bool(piece)


def _flat(values: Sequence[JsonValue]) -> Iterator[JsonValue]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _field(value: JsonValue, name: str, path: str) -> JsonValue:
    if not isinstance(value, dict) or name not in value:
        raise ValueError(f"the answer has no field `{path}`")
    return value[name]
