"""Many call ids in one short text, as an event stores those of a cell.

Format: one word for each id, with spaces between them. ``<24 hex digits>#<n>`` becomes the base64 of the
digits, in 16 characters, and ``#<n>`` unless n is 1; any other id becomes ``=`` and the id. So 10,000 ids
take 170 kB.
"""

import base64
import re
from collections.abc import Iterable

_ID = re.compile(r"([0-9a-f]{24})#(\d+)")
_WORD = re.compile(r"([A-Za-z0-9_-]{16})(?:#(\d+))?")


def pack_ids(ids: Iterable[str]) -> str:
    """The text for these call ids, which have no spaces."""
    return " ".join(map(_word, ids))


def unpack_ids(text: str) -> tuple[str, ...]:
    """The call ids of a text from ``pack_ids``, in order; words of another form are left out."""
    return tuple(filter(None, map(_id, text.split())))


def _word(call_id: str) -> str:
    match = _ID.fullmatch(call_id)
    if match is None:
        return f"={call_id}"
    digest, n = match.groups()
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).decode() + ("" if n == "1" else f"#{n}")


def _id(word: str) -> str:
    match = _WORD.fullmatch(word)
    if match is None:
        return word[1:] if word.startswith("=") else ""
    return f"{base64.urlsafe_b64decode(match[1]).hex()}#{match[2] or 1}"
