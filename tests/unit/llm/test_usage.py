"""What a response says of tokens, tier and money is read leniently, and nothing that cannot be true is."""

import json
import math
from typing import Any

import pytest

from rlm_dist.llm.wire import read_reply
from rlm_dist.schema import CallRequest, Message, Role, Usage

REQUEST = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content="12345678"),))
TOKENS = {"prompt_tokens": 100, "completion_tokens": 50}
CHOICE = {"message": {"content": "hi"}, "finish_reason": "stop"}


def read(usage: object, **reply: object) -> Usage:
    """The usage of an answer."""
    body = json.dumps({"choices": [CHOICE], "usage": usage, **reply})
    completion = read_reply(body, REQUEST, "m").completion
    assert completion is not None
    return completion.usage


def test_the_parts_of_input_and_output_are_read() -> None:
    usage = read(
        TOKENS
        | {
            "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 30, "audio_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 25, "audio_tokens": 5},
        }
    )
    assert usage == Usage(
        input_tokens=100,
        cached_tokens=40,
        cache_write_tokens=30,
        input_audio_tokens=20,
        output_tokens=50,
        reasoning_tokens=25,
        output_audio_tokens=5,
    )


@pytest.mark.parametrize(
    "reported",
    [
        {"prompt_tokens_details": {"cache_creation_tokens": 30}},
        {"prompt_tokens_details": {"cache_write_tokens": 30}},
        {"cache_creation_input_tokens": 30},
        {"prompt_tokens_details": None, "cache_creation_input_tokens": 30},
    ],
)
def test_tokens_written_to_the_cache_have_several_names(reported: dict[str, Any]) -> None:
    assert read(TOKENS | reported).cache_write_tokens == 30


def test_anthropics_name_for_cached_tokens() -> None:
    assert read(TOKENS | {"cache_read_input_tokens": 30}).cached_tokens == 30


@pytest.mark.parametrize("bad", [-1, None, "many", math.nan, math.inf, 1.5, True, [], {}])
@pytest.mark.parametrize("details", ["prompt_tokens_details", "completion_tokens_details"])
def test_a_part_that_cannot_be_true_does_not_cost_the_rest(details: str, bad: object) -> None:
    names = ("cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens")
    assert read(TOKENS | {details: dict.fromkeys(names, bad)}) == Usage(input_tokens=100, output_tokens=50)
    assert read(TOKENS | {details: bad}) == Usage(input_tokens=100, output_tokens=50)


def test_the_parts_are_never_more_than_the_whole() -> None:
    usage = read(
        TOKENS
        | {
            "prompt_tokens_details": {"cached_tokens": 90, "cache_write_tokens": 90, "audio_tokens": 90},
            "completion_tokens_details": {"reasoning_tokens": 90, "audio_tokens": 90},
        }
    )
    assert (usage.cached_tokens, usage.cache_write_tokens, usage.input_audio_tokens) == (90, 10, 0)
    assert (usage.reasoning_tokens, usage.output_audio_tokens) == (50, 0)


@pytest.mark.parametrize("bad", [10**18, 10**400, math.inf, math.nan, 2.5, True])
@pytest.mark.parametrize("field", TOKENS)
def test_tokens_that_cannot_be_true_are_estimated(field: str, bad: object) -> None:
    expected = {"input_tokens": 100, "output_tokens": 50}
    expected |= {"input_tokens": 2} if field == "prompt_tokens" else {"output_tokens": 1}
    assert read(TOKENS | {field: bad}) == Usage.model_validate(expected | {"estimated": True})


@pytest.mark.parametrize(
    ("reported", "tier"),
    [
        ("flex", "flex"),
        ("Priority", "priority"),
        ("batch", "batch"),
        ("default", "default"),
        ("auto", "default"),
        ("standard", "default"),
        ("on_demand", "default"),
        (None, None),
        ("", None),
        (7, None),
        (["flex"], None),
        ("no tier: \n", "other"),
        ("x" * 500, "other"),
    ],
)
def test_the_tier_that_served_the_call(reported: object, tier: str | None) -> None:
    assert read(TOKENS, service_tier=reported).tier == tier
    assert read(TOKENS | {"service_tier": reported}).tier == tier
    assert read(None, service_tier=reported).tier == tier


@pytest.mark.parametrize(("cost", "nanousd"), [(0.00014, 140_000), (0, 0), (5e-10, 1), (1, 10**9)])
def test_the_endpoints_own_bill_is_read_to_the_nano_dollar(cost: float, nanousd: int) -> None:
    assert (
        read(TOKENS | {"cost": cost, "cost_details": {"upstream_inference_cost": 9}}).billed_nanousd
        == nanousd
    )
    assert read({"cost": cost}).billed_nanousd == nanousd


@pytest.mark.parametrize("cost", [None, -0.1, math.nan, math.inf, "0.1", True, 10**12, {"total_cost": 1}])
def test_a_bill_that_cannot_be_true_is_none(cost: object) -> None:
    assert read(TOKENS | {"cost": cost}) == Usage(input_tokens=100, output_tokens=50)


def test_a_bill_without_what_a_users_own_key_paid_is_not_the_whole_one() -> None:
    assert read(TOKENS | {"cost": 0.0001, "is_byok": True}).billed_nanousd is None


def test_what_is_charged_for_a_malformed_answer_keeps_its_tier_and_bill() -> None:
    body = json.dumps({"choices": [], "usage": TOKENS | {"cost": 0.5}, "service_tier": "flex"})
    charge = read_reply(body, REQUEST, "m").charge
    assert charge is not None
    assert (charge.usage.tier, charge.usage.billed_nanousd) == ("flex", 500_000_000)


@pytest.mark.parametrize(
    ("usage", "charged"),
    [
        ({"prompt_tokens": 100, "completion_tokens": None}, {"input_tokens": 100}),
        ({"prompt_tokens": None, "completion_tokens": 50}, {"input_tokens": 2, "output_tokens": 50}),
        ({"cost": 0.5}, {"input_tokens": 2, "billed_nanousd": 500_000_000}),
    ],
)
def test_a_charge_without_all_numbers_is_still_one(usage: dict[str, Any], charged: dict[str, Any]) -> None:
    charge = read_reply(json.dumps({"choices": [], "usage": usage}), REQUEST, "m").charge
    assert charge is not None
    assert charge.usage == Usage.model_validate(charged | {"estimated": True})


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1, "cost": "much"}, {"cost": 0}, 7])
def test_without_any_number_nothing_is_charged(usage: object) -> None:
    assert read_reply(json.dumps({"choices": [], "usage": usage}), REQUEST, "m").charge is None


def test_usage_without_parts_is_stored_as_before() -> None:
    assert Usage(input_tokens=1).model_dump() == {
        "input_tokens": 1,
        "cached_tokens": 0,
        "output_tokens": 0,
        "estimated": False,
    }
