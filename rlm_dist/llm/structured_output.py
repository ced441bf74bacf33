"""The endpoint's own mode for answers that conform to a JSON Schema: the field ``response_format`` of a chat.

It only helps the model: whoever asked checks the answer, as many endpoints ignore the field.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

FIELD = "response_format"
_NAME = "rlm_dist_answer"  # tells our own field from one that the user set
# What a strict mode takes, which has all of an object's properties required and no others allowed.
_STRICT_KEYWORDS = frozenset({
    "$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "exclusiveMaximum",
    "exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum", "multipleOf",
    "pattern", "properties", "required", "title", "type",
})  # fmt: skip


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The value of the field for a schema."""
    is_strict = schema.get("type") == "object" and all(map(_is_strict, _parts(schema)))
    return {"type": "json_schema", "json_schema": {"name": _NAME, "schema": schema, "strict": is_strict}}


def is_ours(body: Mapping[str, Any]) -> bool:
    """Whether the field in a body was made here."""
    field = body.get(FIELD)
    schema = field.get("json_schema") if isinstance(field, dict) else None
    return isinstance(schema, dict) and schema.get("name") == _NAME


def schema_digest(body: Mapping[str, Any]) -> str:
    """A short digest of the schema in a body's field."""
    return hashlib.blake2b(json.dumps(body[FIELD]).encode(), digest_size=8).hexdigest()


def _parts(schema: object) -> Iterator[object]:
    """A schema and the schemas in it, as far as strict modes know them."""
    yield schema
    if isinstance(schema, dict):
        inner = [schema.get("items")] if "items" in schema else []
        for name in ("properties", "$defs"):
            inner += schema[name].values() if isinstance(schema.get(name), dict) else ()
        inner += schema["anyOf"] if isinstance(schema.get("anyOf"), list) else ()
        for part in inner:
            yield from _parts(part)


def _is_strict(part: object) -> bool:
    if not isinstance(part, dict) or not part.keys() <= _STRICT_KEYWORDS:
        return False
    if part.get("type") != "object" and "properties" not in part:
        return True
    properties, required = part.get("properties"), part.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list):
        return False
    return part.get("additionalProperties") is False and set(required) == set(properties)
