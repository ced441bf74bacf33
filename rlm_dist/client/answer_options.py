"""Checks the options of a job that say what its answer must be like."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, PydanticUserError

from rlm_dist.json_schemas import check_schema

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_FIELD = re.compile(r"[^.\s][^.]*(\.[^.\s][^.]*)*")


def schema_of(value: object) -> object:
    """The JSON Schema of a pydantic model class; anything else as it is. ValueError if the class has none."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        try:
            return value.model_json_schema()
        except PydanticUserError as error:
            raise ValueError(f"{value.__name__} has no JSON Schema: {error.message}") from None
    return dict(value) if isinstance(value, Mapping) else value


def checked_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, if it can be used; ValueError if not."""
    _check(json.dumps(schema))
    return schema


def checked_function(path: str) -> str:
    """The import path of a validator, if it has the form of one; ValueError if not."""
    if not _FUNCTION.fullmatch(path):
        raise ValueError("must be an import path such as package.module:function")
    return path


def checked_field(path: str) -> str:
    """The path of an answer's field, if it has the form of one; ValueError if not."""
    if not _FIELD.fullmatch(path):
        raise ValueError("must be the name of a field, or names with dots, such as items.quote")
    return path


@lru_cache(maxsize=256)  # the lines of a batch often have the same schema
def _check(text: str) -> None:
    try:
        check_schema(json.loads(text))
    except RecursionError:
        raise ValueError("the schema refers to itself without end, or is nested too deeply") from None
