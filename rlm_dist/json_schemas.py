"""JSON Schemas that users give for answers: checked when given; answers are then checked against them.

A schema may come from a batch file of others or from model-written code, and is used on the host. So no
reference to another document is followed, patterns are matched by an engine that takes linear time, and a
check that takes more than ``_MAX_STEPS``, or goes deeper than ``_MAX_DEPTH``, is given up: what cannot be
checked does not conform.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import pydantic_core
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import JsonValue
from pydantic_core import SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

JsonSchema = Mapping[str, Any]

MAX_SCHEMA_BYTES = 64 << 10
_MAX_CHARS = 300
_MOST_PROBLEMS = 5
# A step is one keyword applied to one value; large values take more. They take a few seconds.
_MAX_STEPS = 400_000
# Of keywords within each other, a few Python frames each. At Python's own limit, libraries in other languages
# panic, which is no ordinary exception.
_MAX_DEPTH = 120
_ITEMS_A_STEP, _CHARS_A_STEP = 20, 100
_STEPS_AN_ERROR = 10
_PAIRS_A_STEP = 1000  # ``uniqueItems`` may have to compare each item with each other

_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class _TooCostly(Exception):  # no error: the check is given up
    """The check would take too many steps."""


# Of the check that runs: the steps that are left, and how deep it is.
_steps: ContextVar[list[int]] = ContextVar("steps")


def check_schema(schema: JsonSchema) -> None:
    """Return if this is a JSON Schema (draft 2020-12) that we can use.

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        size = len(json.dumps(schema))
        if size > MAX_SCHEMA_BYTES:
            raise ValueError(f"the schema has {size:,} bytes, and at most {MAX_SCHEMA_BYTES:,} are allowed")
        Draft202012Validator.check_schema(schema)
        _check_parts(schema)
        _first_errors(schema, None)
    except SchemaError as error:
        raise ValueError(f"not a JSON Schema: {_line(error)}") from None
    except Unresolvable as error:
        raise ValueError(f"refers to {error.ref!r}, which is not in the schema itself") from None
    except (_TooCostly, RecursionError):
        raise ValueError("the schema refers to itself without end, or takes too long to check") from None


def problems(schema: JsonSchema, value: JsonValue) -> list[str]:
    """What keeps ``value`` from conforming to the schema, at most five lines with the place of each.

    The lines quote parts of the value, so they are for the model and the user, not for a log.
    """
    try:
        return [_line(error) for error in _first_errors(schema, value)]
    except Unresolvable as error:
        return [f"the schema refers to {error.ref!r}, which is not in the schema itself"]
    except (_TooCostly, RecursionError):
        return ["the value: it is too large to be checked against this schema"]


def _first_errors(schema: JsonSchema, value: JsonValue) -> list[ValidationError]:
    token = _steps.set([_MAX_STEPS, 0])
    try:
        validator = _BoundedValidator(schema, registry=Registry())
        return list(islice(validator.iter_errors(value), _MOST_PROBLEMS))
    finally:
        _steps.reset(token)


def _check_parts(schema: JsonSchema) -> None:
    """Raise ValueError if a part of the schema has a pattern or a reference that cannot be used."""
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    keywords: set[str] = set()
    parts: list[object] = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            keywords.update(part)
            parts += part.values()
            patterns = part.get("patternProperties")
            for pattern in (part.get("pattern"), *(patterns if isinstance(patterns, dict) else ())):
                if isinstance(pattern, str):
                    _check_pattern(pattern)
            if isinstance(part.get("$ref"), str):
                _check_reference(resolver, part["$ref"])
        elif isinstance(part, list):
            parts += part
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        raise ValueError("patternProperties and unevaluatedProperties cannot be used together here")


def _check_reference(resolver: Any, reference: str) -> None:
    try:
        resolver.lookup(reference)
    except Unresolvable:
        raise ValueError(f"refers to {_cut(reference)!r}, which is not in the schema itself") from None


def _check_pattern(pattern: str) -> None:
    try:
        _matcher(pattern)
    except pydantic_core.SchemaError:
        raise ValueError(
            f"the pattern {_cut(pattern)!r} cannot be used: look-around and references back are not possible"
        ) from None


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _matches(pattern: str, text: str) -> bool:
    _spend(1 + len(text) // _CHARS_A_STEP)
    return _matcher(pattern).isinstance_python(text)


def _spend(steps: int) -> None:
    left = _steps.get()
    left[0] -= steps
    if left[0] < 0:
        raise _TooCostly


def _size(value: object) -> int:
    """The steps that it takes to look at a value once, without what is in it."""
    if isinstance(value, str):
        return len(value) // _CHARS_A_STEP
    return len(value) // _ITEMS_A_STEP if isinstance(value, (list, dict)) else 0


def _bounded(
    function: _Keyword, validator: Any, value: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    """A keyword of JSON Schema that spends steps, and whose errors quote only a part of a long value."""
    _spend(1 + _size(value) + _size(instance))
    check = _steps.get()
    check[1] += 1
    try:
        if check[1] > _MAX_DEPTH:
            raise _TooCostly
        for error in function(validator, value, instance, schema) or ():
            _spend(_STEPS_AN_ERROR + len(error.message) // _CHARS_A_STEP)
            error.message = _cut(error.message)
            yield error
    finally:
        check[1] -= 1


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{_cut(instance)!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    for pattern, subschema in patterns.items() if validator.is_type(instance, "object") else ():
        for name, value in instance.items():
            if _matches(pattern, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    """As jsonschema's, but for the engine of the patterns."""
    if validator.is_type(instance, "object"):
        patterns = schema.get("patternProperties", {})
        rest = {
            name: value
            for name, value in instance.items()
            if not any(_matches(pattern, name) for pattern in patterns)
        }
        plain = {name: part for name, part in schema.items() if name != "patternProperties"}
        yield from _KEYWORDS["additionalProperties"](validator, allowed, rest, plain) or ()


def _unique_items(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "array"):
        _spend(len(instance) ** 2 // _PAIRS_A_STEP)
    yield from _KEYWORDS["uniqueItems"](validator, value, instance, schema) or ()


_KEYWORDS: Mapping[str, _Keyword] = Draft202012Validator.VALIDATORS
_OWN: Mapping[str, _Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_BoundedValidator: Any = validators.extend(  # type: ignore[no-untyped-call]  # it has no types
    Draft202012Validator,
    {name: partial(_bounded, function) for name, function in {**_KEYWORDS, **_OWN}.items()},
)


def _line(error: ValidationError | SchemaError) -> str:
    place = error.json_path if error.absolute_path else "the value"
    return f"{place}: {_cut(error.message)}"


def _cut(text: str) -> str:
    if len(text) <= _MAX_CHARS:
        return text
    return f"{text[: _MAX_CHARS // 2]} … {text[-_MAX_CHARS // 2 :]}"
