"""Names that others chose (ids, paths), as they are shown on a terminal or written to a log."""

import re

# Control characters, line separators, marks that reorder a line, and lone surrogates.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def one_line(name: str) -> str:
    """The name with an escape such as ``\\n`` or ``\\u202e`` for each character that is not plain text."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), name)
