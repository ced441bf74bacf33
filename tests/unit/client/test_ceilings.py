"""What a line of somebody else's batch may ask for at most."""

from pathlib import Path
from typing import Any

import pytest

from rlm_dist.client.batch_item import read_item
from rlm_dist.client.ceilings import check_ceilings
from rlm_dist.client.options import read_options
from rlm_dist.errors import InputError

CEILINGS: dict[str, Any] = {
    "model": "big",
    "sub_model": "small",
    "sub_models": ["middle"],
    "validator": "p.m:f",
    "max_iterations": 5,
    "max_usd": 0.5,
    "max_tokens": 1000,
    "max_sub_calls": 10,
    "max_seconds": 60.0,
    "max_output_tokens": 100,
    "sub_max_output_tokens": 50,
    "extra_body": {"top_p": 0.5},
    "tools": ["lookup"],
}


def problems(line: dict[str, Any], **ceilings: Any) -> tuple[str, ...]:
    item = read_item({"id": "a", "query": "q", "context": "c"} | line, Path())
    try:
        check_ceilings(item, read_options(CEILINGS | ceilings))
    except InputError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    ("name", "fits", "exceeds"),
    [
        ("max_iterations", 5, 6),
        ("max_usd", 0.5, 0.51),
        ("max_tokens", 1, 1001),
        ("max_sub_calls", 0, 11),
        ("max_seconds", 59.5, 60.5),
        ("max_output_tokens", 100, 101),
        ("sub_max_output_tokens", 50, 51),
        ("model", "big", "bigger"),
        ("sub_model", "small", "big"),
        ("sub_models", ["middle", "big", "small"], ["middle", "huge"]),
        ("judge_model", "middle", "huge"),
        ("validator", "p.m:f", "p.m:other"),
        ("extra_body", {"top_p": 0.5}, {"top_p": 0.5, "service_tier": "priority"}),
        ("tools", ["lookup"], ["lookup", "system"]),
        ("tier", "flex", "priority"),
        ("tier", "default", "priority"),
        ("sub_tier", "flex", "priority"),
        ("priority", "low", "high"),
        ("samples", 1, 2),
    ],
)
def test_a_line_may_ask_for_less_and_not_for_more(name: str, fits: object, exceeds: object) -> None:
    assert problems({name: fits}) == ()
    (problem,) = problems({name: exceeds})
    assert problem.startswith(f"{name}: ")


def test_a_line_without_values_gets_those_of_the_batch() -> None:
    assert problems({}) == ()


def test_an_extra_body_needs_one_of_the_batch() -> None:
    (problem,) = problems({"sub_extra_body": {"top_p": 1}})
    assert problem.startswith("sub_extra_body: ")


def test_the_tier_of_the_batch_holds_for_sub_calls_too() -> None:
    assert problems({"sub_tier": "default"}, tier="flex") != ()
    assert problems({"sub_tier": "priority"}, tier="priority") == ()
    assert problems({"sub_tier": "priority"}, tier="default", sub_tier="priority") == ()


def test_every_field_over_its_ceiling_is_named() -> None:
    assert len(problems({"max_usd": 1, "max_tokens": 2000, "model": "x"})) == 3


def test_a_limit_without_a_ceiling_is_the_line_s_own() -> None:
    assert problems({"max_depth": 1}) == ()


def test_an_openai_line_has_its_model_in_the_body() -> None:
    body = {"model": "huge", "messages": [{"role": "user", "content": "q"}]}
    item = read_item({"custom_id": "a", "body": body}, Path())
    with pytest.raises(InputError, match=r"^body\.model: "):
        check_ceilings(item, read_options(CEILINGS))
