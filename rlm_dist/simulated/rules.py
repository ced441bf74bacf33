"""The simulated sub model: answers by rule, the same text for the same prompt.

Rules, first match wins: the "magic number for KEY" that is asked for is looked up in the prompt; a prompt
that asks to label or classify a line gets a label by that line's first word; any other gets a short digest.
If the chat names a JSON Schema, the answer is a JSON value of its type, whose strings are the text by rule.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_dist.schema import Message

_ASKED_KEY = re.compile(r"magic number for ([^\s?\"'`]+)[\"'`]?\s*\?", re.I)
_LINE = re.compile(r"^(?:line|question|text|input)\s*\d*\s*:[ \t]*(.+)$", re.I | re.M)
_LABELLING = re.compile(r"\b(?:label|classify|categor)", re.I)
_QUANTITY = re.compile(r"how (?:many|much|long|far|old|tall|big|large|often)\b")
_LABELS = {
    "who": "human being",
    "whose": "human being",
    "whom": "human being",
    "where": "location",
    "when": "numeric value",
    "what": "entity",
    "which": "entity",
    "why": "description and abstract concept",
    "how": "description and abstract concept",
}
OTHER_LABEL = "other"
_SCHEMA = re.compile(r"^.*JSON Schema:\n(\{.*\})\s*\Z", re.I | re.M)
NOTHING = "NONE"


def answer(messages: Sequence[Message]) -> str:
    """The sub model's answer to ``messages``."""
    prompt = messages[-1].content if messages else ""
    schema = next((match for message in messages if (match := _SCHEMA.search(message.content))), None)
    if schema is None:
        return _text(prompt)
    return json.dumps(_value(json.loads(schema[1]), _text(_SCHEMA.sub("", prompt).strip())))


def _value(schema: Mapping[str, Any], text: str) -> Any:
    """A value of the schema's type, with ``text`` for each string and else the least there can be."""
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _value(part, text) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [_value(schema.get("items", {}), text)] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "null":
            return None
    return text


def _text(prompt: str) -> str:
    keys = _ASKED_KEY.findall(prompt)
    if keys:
        return _magic_number(prompt, keys[-1])
    line = _LINE.search(prompt)
    if line and _LABELLING.search(prompt):
        return label(line[1])
    return _digest(prompt)


def label(line: str) -> str:
    """The label of a line: the kind of thing that a question with this first word asks for."""
    words = line.strip().lower()
    if _QUANTITY.match(words):
        return "numeric value"
    first = re.match(r"[a-z]+", words)
    return _LABELS.get(first[0], OTHER_LABEL) if first else OTHER_LABEL


def _magic_number(prompt: str, key: str) -> str:
    match = re.search(rf"magic number for {re.escape(key)} is:?\s*([\w-]+)", prompt, re.I)
    return match[1] if match else NOTHING


def _digest(prompt: str) -> str:
    words = prompt.split()
    mark = hashlib.sha256(prompt.encode(errors="replace")).hexdigest()[:8]
    return f"{len(words)} words, starting {' '.join(words[:5])[:60]!r} ({mark})"
