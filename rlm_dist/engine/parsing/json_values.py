"""The JSON value that a model's text is."""

import json
import re

from pydantic import JsonValue

from rlm_dist.bounded_json import parse

_FENCED = re.compile(r"\s*(```|~~~)[ \t]*\w*[ \t]*\n(.*)\n[ \t]*\1\s*", re.S)


def read_json(text: str) -> JsonValue:
    """The JSON value that a text holds, as it stands or in one fence around all of it.

    Raises:
        ValueError: if it holds none, or one that others could not read: NaN, or half of a surrogate pair.
    """
    fenced = _FENCED.fullmatch(text)
    value: JsonValue = parse(fenced[2] if fenced else text)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value
