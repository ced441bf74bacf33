"""JSON Schemas that users give for answers: checked when given; answers are then checked against them.

A schema may come from a batch file of others, so no reference to another document is followed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

JsonSchema = Mapping[str, Any]

MAX_SCHEMA_BYTES = 64 << 10
_MAX_CHARS = 300
_MOST_PROBLEMS = 5


def check_schema(schema: JsonSchema) -> None:
    """Return if this is a JSON Schema (draft 2020-12) that we can use.

    Raises:
        ValueError: saying what is wrong with it.
    """
    size = len(json.dumps(schema))
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"the schema has {size:,} bytes, and at most {MAX_SCHEMA_BYTES:,} are allowed")
    try:
        Draft202012Validator.check_schema(schema)
        problems(schema, None)
    except SchemaError as error:
        raise ValueError(f"not a JSON Schema: {_line(error)}") from None
    except Unresolvable as error:
        raise ValueError(f"refers to {error.ref!r}, which is not in the schema itself") from None


def problems(schema: JsonSchema, value: JsonValue) -> list[str]:
    """What keeps ``value`` from conforming to the schema, at most five lines with the place of each.

    The lines quote parts of the value, so they are for the model and the user, not for a log.
    """
    validator = Draft202012Validator(schema, registry=Registry())
    return [_line(error) for error in islice(validator.iter_errors(value), _MOST_PROBLEMS)]


def _line(error: ValidationError | SchemaError) -> str:
    place = error.json_path if error.absolute_path else "the value"
    message = error.message
    if len(message) > _MAX_CHARS:
        message = f"{message[: _MAX_CHARS // 2]} … {message[-_MAX_CHARS // 2 :]}"
    return f"{place}: {message}"
