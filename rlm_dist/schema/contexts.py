"""A stored context: where its bytes lie, and what the prompt says about it."""

from typing import Literal

from rlm_dist.schema.base import Wire


class ContextInfo(Wire):
    """A description of a context that makes reading it unnecessary: enough for the prompt, at any size.

    ``kind`` is the Python type that the REPL shows: ``str``, ``list`` of str, ``dict`` of str to str, or
    ``json`` for any other JSON value. ``chars`` counts the code points of all texts, ``items`` the elements
    of a list or dict (1 for a str); ``sizes`` has the chars of the first few elements. ``several`` says that
    the elements were submitted as separate contexts (``context_0`` …), ``named`` that each has a path.
    """

    kind: Literal["str", "list", "dict", "json"]
    chars: int
    items: int
    sizes: tuple[int, ...] = ()
    several: bool = False
    named: bool = False


class ContextRef(Wire):
    """A stored context: the SHA-256 of its encoded bytes, their number, and a description of the context."""

    sha256: str
    size_bytes: int
    info: ContextInfo
