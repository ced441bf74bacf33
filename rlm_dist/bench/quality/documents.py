"""Documents for tasks over many of them: real texts of a folder, or generated filler."""

import random
from collections.abc import Iterator
from pathlib import Path

from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line
from rlm_dist.schema import CHARS_PER_TOKEN

_SUFFIXES = frozenset({"", ".txt", ".md", ".rst", ".pod", ".text"})
_MIN_CHARS = 200
_SENTENCES = 2000
_SUBJECTS = ("committee", "library", "orchestra", "museum", "garden", "school", "market", "theatre", "chapel")
_VERBS = (
    "opened",
    "moved",
    "closed early",
    "kept its hours",
    "was repainted",
    "found new members",
    "lent its hall",
)
_WHEN = ("in spring", "last autumn", "after the holidays", "before noon", "on two Sundays", "during the fair")
_WHY = (
    "for want of space",
    "as agreed",
    "to save money",
    "against advice",
    "with some help",
    "to general surprise",
)


def text_documents(folder: Path, count: int, tokens: int) -> list[str]:
    """Return ``count`` documents of at most ``tokens`` each, cut at lines from the folder's text files.

    Raises:
        InputError: the folder cannot be read, or has too little text.
    """
    if not folder.is_dir():
        raise InputError((f"{one_line(str(folder))}: is not a folder",))
    documents: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            documents.extend(_pieces(path, tokens * CHARS_PER_TOKEN))
        if len(documents) >= count:
            return documents[:count]
    problem = f"has text for {len(documents)} documents, not {count}"
    raise InputError((f"{one_line(str(folder))}: {problem}",))


def _pieces(path: Path, max_chars: int) -> Iterator[str]:
    """The text in pieces of at most ``max_chars``, without those that are hardly a document."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return  # no text file, or one of another user
    piece: list[str] = []
    chars = 0
    for line in text.splitlines():
        if chars + len(line) + 1 > max_chars and piece:
            if chars >= _MIN_CHARS:
                yield "\n".join(piece)
            piece, chars = [], 0
        piece.append(line[:max_chars])
        chars += len(piece[-1]) + 1
    if chars >= _MIN_CHARS:
        yield "\n".join(piece)


def filler_documents(count: int, tokens: int, rng: random.Random) -> list[str]:
    """Return ``count`` documents of about ``tokens`` each, of lines that name nobody and no place."""
    sentences = [
        f"The {rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_WHEN)}, {rng.choice(_WHY)}."
        for _ in range(_SENTENCES)
    ]
    mean = sum(map(len, sentences)) / len(sentences) + 1
    lines = max(2, round(tokens * CHARS_PER_TOKEN / mean))
    return ["\n".join(rng.choices(sentences, k=lines)) for _ in range(count)]
