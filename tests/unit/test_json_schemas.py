"""JSON Schemas of users: which are taken, and what is wrong with a value."""

import pytest

from rlm_dist.json_schemas import MAX_SCHEMA_BYTES, check_schema, problems

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "born": {"type": "integer"}},
    "required": ["name", "born"],
    "additionalProperties": False,
}


def test_a_value_that_conforms_has_no_problems() -> None:
    check_schema(PERSON)
    assert problems(PERSON, {"name": "Ada", "born": 1815}) == []


def test_each_problem_names_its_place() -> None:
    assert problems(PERSON, {"name": 3, "born": "1815"}) == [
        "$.name: 3 is not of type 'string'",
        "$.born: '1815' is not of type 'integer'",
    ]
    assert problems(PERSON, [])[0] == "the value: [] is not of type 'object'"


def test_a_long_value_is_quoted_in_part_and_many_problems_are_cut() -> None:
    (line,) = problems({"type": "integer"}, "x" * 10_000)
    assert len(line) < 400
    assert len(problems({"type": "array", "items": {"type": "integer"}}, ["x"] * 100)) == 5


def test_references_within_the_schema_are_followed() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/$defs/n"}}
    check_schema(schema)
    assert problems(schema, ["x"]) == ["$[0]: 'x' is not of type 'integer'"]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strin"}, "not a JSON Schema: $.type: 'strin' is not valid"),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "refers to 'http://127.0.0.1:9/x.json'"),
        ({"$ref": "file:///etc/passwd"}, "refers to 'file:///etc/passwd'"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, "at most 65,536 are allowed"),
    ],
)
def test_what_is_no_usable_schema_is_refused(schema: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("$", r"\$")):
        check_schema(schema)
