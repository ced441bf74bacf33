"""JSON Schemas of users: which are taken, and what is wrong with a value."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rlm_dist import json_schemas
from rlm_dist.json_schemas import MAX_SCHEMA_BYTES, check_schema, problems

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "born": {"type": "integer"}},
    "required": ["name", "born"],
    "additionalProperties": False,
}

# Each definition uses the next one twice.
DOUBLING = {
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}},
    "$ref": "#/$defs/d0",
}
DEEP: Any = {}
for _ in range(3000):
    DEEP = {"items": DEEP}


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


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "refers to '#/$defs/b'"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]}, "refers to itself"),
        (DOUBLING, "takes too long to check"),
        ({"pattern": "(?=a)b"}, "the pattern '(?=a)b' cannot be used"),
        ({"patternProperties": {r"(a)\1": True}}, "cannot be used"),
        ({"patternProperties": {"a": True}, "unevaluatedProperties": False}, "cannot be used together"),
        ({"items": DEEP}, "refers to itself without end, or takes too long"),
    ],
)
def test_a_schema_that_could_hold_up_the_host_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 50_000 + "!"),
        ({"patternProperties": {"^(a+)+$": True}, "additionalProperties": False}, {"a" * 50_000 + "!": 1}),
        ({"type": "array", "uniqueItems": True}, [*range(100_000), {}, "x"]),
        ({"items": {"anyOf": [{"const": n} for n in range(2000)]}}, [1999] * 10_000),
    ],
)
def test_a_value_that_takes_long_to_check_does_not_conform(schema: dict[str, Any], value: Any) -> None:
    check_schema(schema)
    assert len(problems(schema, value)) == 1


def test_a_large_list_of_records_is_checked() -> None:
    schema = {"type": "array", "items": PERSON}
    records: list[Any] = [{"name": f"n{number}", "born": number} for number in range(10_000)]
    assert problems(schema, records) == []
    assert problems(schema, [*records, {"name": "n"}]) == ["$[10000]: 'born' is a required property"]


SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.5, "", "a", "ab"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.builds(lambda name: {"type": name}, NAMES),
        st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=3)),
        st.builds(lambda pattern: {"pattern": pattern}, st.sampled_from(["^a", "b$", "^(a|b)+$"])),
        st.builds(lambda unique: {"uniqueItems": unique}, st.booleans()),
        st.sampled_from([{"minimum": 1}, {"maxLength": 1}, {"minItems": 2}, {"required": ["a"]}, {}]),
    ),
    lambda inner: st.one_of(
        st.builds(lambda schema: {"items": schema}, inner),
        st.builds(lambda schema: {"not": schema}, inner),
        st.builds(lambda schemas: {"anyOf": schemas}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda schemas: {"allOf": schemas}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda schemas: {"oneOf": schemas}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(
            lambda named, patterns, others: {
                "properties": named, "patternProperties": patterns, "additionalProperties": others
            },
            st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            st.dictionaries(st.sampled_from(["^a", "[bc]"]), inner, max_size=2),
            st.booleans() | inner,
        ),
    ),
    max_leaves=5,
)  # fmt: skip


@given(SCHEMAS, VALUES)
def test_the_decision_is_that_of_jsonschema(schema: dict[str, Any], value: Any) -> None:
    check_schema(schema)
    assert (problems(schema, value) == []) is Draft202012Validator(schema).is_valid(value)


def test_a_schema_without_end_is_refused_before_python_runs_out_of_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Libraries in other languages panic there; here a RecursionError would not be caught."""
    monkeypatch.setattr(json_schemas, "RecursionError", ZeroDivisionError, raising=False)
    with pytest.raises(ValueError, match="refers to itself without end"):
        check_schema({"$ref": "#"})


def test_values_as_deep_as_an_answer_may_be_are_checked() -> None:
    tree: dict[str, object] = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["n"]}
    value: dict[str, object] = {"n": 1}
    for _ in range(49):
        value = {"n": 1, "next": value}
    assert problems(tree, value) == []  # type: ignore[arg-type]
