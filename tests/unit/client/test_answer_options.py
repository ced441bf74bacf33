"""The options that say what an answer must be like: checked when a job is submitted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rlm_dist.client.batch_item import BatchItem, read_item
from rlm_dist.client.job_specs import JobSpecFactory
from rlm_dist.client.options import read_options
from rlm_dist.errors import InputError
from rlm_dist.schema import ContextInfo, ContextRef, JobSpec
from rlm_dist.settings import Settings

REF = ContextRef(sha256="0" * 64, size_bytes=1, info=ContextInfo(kind="str", chars=1, items=1))


class Found(BaseModel):
    """An answer of a test."""

    n: int


class Opaque(BaseModel):
    """A model without a JSON Schema."""

    call: Callable[[], int]


def made(line: dict[str, Any], **options: Any) -> JobSpec:
    item = read_item({"id": "a", "query": "q", "context": "c"} | line, Path())
    return JobSpecFactory(Settings()).make(item, item.options.over(read_options(options)), REF, job_id="j")


def problem(**options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_options(options)
    (found,) = caught.value.problems
    return found


def openai(response_format: object) -> BatchItem:
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}], "response_format": response_format}
    return read_item({"custom_id": "a", "body": body}, Path())


def test_a_model_class_is_its_schema_and_a_line_wins_over_the_batch() -> None:
    assert made({}, response_schema=Found).response_schema == Found.model_json_schema()
    assert made({"response_schema": {"type": "array"}}, response_schema=Found).response_schema == {
        "type": "array"
    }


def test_all_of_them_reach_the_job_and_jobs_without_them_are_stored_as_before() -> None:
    given = {"quote_check": "a.b", "validator": "p.m:f", "judge": "Good?", "judge_model": "big"}
    spec = made(given)
    assert {name: getattr(spec, name) for name in given} == given
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert not {"response_schema", *given} & made({}).model_dump().keys()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("response_schema", {"type": "strnig"}, "not a JSON Schema"),
        ("response_schema", {"$ref": "#"}, "refers to itself"),
        ("response_schema", {"$ref": "https://example.com/x"}, "not in the schema itself"),
        ("response_schema", {"description": "x" * 70_000}, "bytes"),
        ("response_schema", [], "dict"),
        ("response_schema", int, "dict"),
        ("response_schema", Opaque, "has no JSON Schema"),
        ("validator", "os.system", "package.module:function"),
        ("validator", "a:b.c", "package.module:function"),
        ("quote_check", "a..b", "name of a field"),
        ("judge", " ", "rubric"),
        ("judge", "x" * 20_001, "rubric"),
    ],
)
def test_a_bad_one_is_named(name: str, value: object, words: str) -> None:
    found = problem(**{name: value})
    assert found.startswith(name)
    assert words in found


def test_the_response_format_of_an_openai_line_is_the_schema() -> None:
    schema = {"type": "object", "required": ["n"]}
    named = {"name": "x", "strict": True, "description": "d", "schema": schema}
    assert openai({"type": "json_schema", "json_schema": named}).options.response_schema == schema
    assert openai({"type": "json_object"}).options.response_schema == {"type": "object"}
    assert openai({"type": "text"}).options.response_schema is None


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x"}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strnig"}}},
        {"type": "json_object", "json_schema": {"schema": {}}},
        {"type": "grammar"},
        "json_object",
    ],
)
def test_a_bad_response_format_is_named(response_format: object) -> None:
    with pytest.raises(InputError, match=r"body\.response_format"):
        openai(response_format)
