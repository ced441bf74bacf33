"""Texts of models and documents as safe HTML: nothing in them is markup, and nothing in them is hidden.

A control character, a mark that changes the reading direction and a lone surrogate is shown as a small box
with its name. So an ANSI escape reads as what it is, and code cannot look like other code.
"""

import re
import unicodedata

from markupsafe import Markup, escape
from pygments.lexers.python import PythonLexer
from pygments.token import STANDARD_TYPES

# All control characters but tab and newline; marks of direction; invisible characters but the joiners that
# scripts and emoji need; line separators; tags; surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_SHORT = {
    **dict(
        enumerate(
            [
                "NUL",
                "SOH",
                "STX",
                "ETX",
                "EOT",
                "ENQ",
                "ACK",
                "BEL",
                "BS",
                "HT",
                "LF",
                "VT",
                "FF",
                "CR",
                "SO",
                "SI",
            ]
        )
    ),
    **dict(
        enumerate(
            [
                "DLE",
                "DC1",
                "DC2",
                "DC3",
                "DC4",
                "NAK",
                "SYN",
                "ETB",
                "CAN",
                "EM",
                "SUB",
                "ESC",
                "FS",
                "GS",
                "RS",
                "US",
            ],
            16,
        )
    ),
    0x7F: "DEL",
    0x9B: "CSI",
    0x200B: "ZWSP",
    0x200E: "LRM",
    0x200F: "RLM",
    **dict(zip(range(0x202A, 0x202F), ["LRE", "RLE", "PDF", "LRO", "RLO"], strict=True)),
    **dict(zip(range(0x2066, 0x206A), ["LRI", "RLI", "FSI", "PDI"], strict=True)),
    0x061C: "ALM",
    0x2028: "LSEP",
    0x2029: "PSEP",
    0xFEFF: "BOM",
    0xAD: "SHY",
}
_MOST_HIGHLIGHTED = 50_000
_LEXER = PythonLexer(stripnl=False, ensurenl=False)


def visible(text: str) -> Markup:
    """The text as HTML that shows every character; the words of other scripts keep their direction."""
    parts, end = [], 0
    for match in _HIDDEN.finditer(text):
        parts += [escape(text[end : match.start()]), _box(match[0])]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def python_code(code: str) -> Markup:
    """Python as HTML, with Pygments' short class names; a very long one is not coloured."""
    if len(code) > _MOST_HIGHLIGHTED:
        return visible(code)
    parts = []
    for kind, value in _LEXER.get_tokens(code):
        name = STANDARD_TYPES.get(kind, "")
        shown = visible(value)
        parts.append(Markup('<span class="{}">{}</span>').format(name, shown) if name else shown)
    return Markup("").join(parts)


def _box(char: str) -> Markup:
    code = ord(char)
    name = unicodedata.name(char, "") or f"U+{code:04X}"
    return Markup('<span class="hidden-char" title="U+{:04X} {}">{}</span>').format(
        code, name, _SHORT.get(code, f"U+{code:04X}")
    )
