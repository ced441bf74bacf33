"""The templates of the viewer, and what they need: numbers as text, JSON for scripts, static files."""

import hashlib
import json
from base64 import b64encode
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rlm_dist.operations.viewer.text import python_code, visible

_PACKAGE = "rlm_dist.operations.viewer"


@cache
def environment() -> Environment:
    """The templates: every value is escaped, and one that does not exist is an error."""
    made = Environment(
        loader=PackageLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "visible": visible,
        "python_code": python_code,
        "count": count,
        "usd": usd,
        "duration": duration,
        "lines": lambda text: text.count("\n") + 1,
    }
    return made


@cache
def static(name: str) -> str:
    """The text of ``viewer.css`` or ``viewer.js``."""
    return (resources.files(_PACKAGE) / "static" / name).read_text("utf-8")


def policy() -> str:
    """The content security policy of a page with both static files inline: no network, no other script."""
    script, style = (_hash(static(name)) for name in ("viewer.js", "viewer.css"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def json_script(value: object) -> Markup:
    """A value as JSON for a script element: in ASCII, and without characters that could end the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # see above


def inline(name: str) -> Markup:
    """A static file of ours for an inline element, exactly as ``policy`` names it."""
    return Markup(static(name))  # it is ours


def count(number: float | None) -> str:
    """A count with separators; a dash if it is not known."""
    return "–" if number is None else f"{number:,.0f}"


def usd(amount: float | None) -> str:
    """Money as text; an unknown amount is never shown as 0."""
    if amount is None:
        return "unknown"
    return f"${amount:,.2f}" if amount >= 100 or amount == 0 else f"${amount:.4f}"


def duration(seconds: float | None) -> str:
    """A duration in the largest units that keep it readable; a dash if it is not known."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
