"""A call is reserved at the tier that it asks for, and paid at the tier that served it."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import CallRequest, CallResult, Completion, Message, Role, Usage
from rlm_dist.store import Spend
from rlm_dist.worker.accounts import Accounts
from rlm_dist.worker.call_ids import CallIds

OPENAI = "https://api.openai.com/v1"
HELLO = (Message(role="user", content="x" * 4000),)
# 1000 tokens in and 1024 out of gpt-5, in nano-dollars.
DEFAULT, FLEX, PRIORITY = 11_490_000, 5_745_000, 22_980_000


def accounts(prices: Path | None = None, url: str = OPENAI) -> Accounts:
    """The accounts of workers whose roles share one endpoint."""
    endpoints = dict.fromkeys(Role, (Endpoint(url),))
    return Accounts(prices=Prices(prices), endpoints=endpoints, resolve=lambda _, name: name)


def request(model: str = "gpt-5", **fields: Any) -> CallRequest:
    """A call with about 1000 tokens of prompt."""
    return CallRequest(role=Role.SUB, model=model, messages=HELLO, **fields)


def paid(own: Accounts, asked: CallRequest, **reported: Any) -> Spend:
    """What a call costs that used 1000 tokens in and 1024 out."""
    usage = Usage(input_tokens=1000, output_tokens=1024, **reported)
    done = Completion(text="", usage=usage, finish_reason="stop", model=asked.model)
    spend = own.settlement("c", asked, CallResult(completion=done), "").spend
    assert spend is not None
    return spend


@pytest.mark.parametrize(
    ("fields", "nanousd"),
    [
        ({}, DEFAULT),
        ({"tier": "default"}, DEFAULT),
        ({"tier": "flex"}, FLEX),
        ({"tier": "priority"}, PRIORITY),
        ({"extra_body": {"service_tier": "priority"}}, PRIORITY),
        ({"extra_body": {"service_tier": "auto"}}, DEFAULT),
        ({"extra_body": {"service_tier": None}}, DEFAULT),
        ({"extra_body": {"service_tier": "scale"}}, None),
        ({"tier": "flex", "extra_body": {"service_tier": "priority"}}, FLEX),
    ],
)
def test_the_price_of_the_tier_that_is_asked_for_is_reserved(
    fields: dict[str, Any], nanousd: int | None
) -> None:
    assert accounts().reserve(request(**fields)) == (2024, nanousd)


@pytest.mark.parametrize(
    ("asked", "served", "nanousd", "line"),
    [
        (None, None, DEFAULT, None),
        (None, "default", DEFAULT, "default"),
        (None, "priority", PRIORITY, "priority"),
        ("flex", "flex", FLEX, "flex"),
        ("flex", "default", DEFAULT, "default"),
        ("flex", None, DEFAULT, None),
        ("priority", "priority", PRIORITY, "priority"),
        ("priority", "default", DEFAULT, "default"),
        ("priority", None, PRIORITY, "priority"),
        (None, "scale", None, "scale"),
    ],
)
def test_a_call_costs_what_the_tier_costs_that_served_it(
    asked: str | None, served: str | None, nanousd: int | None, line: str | None
) -> None:
    """A discount is not assumed unless the endpoint confirms it, and a surcharge is unless it denies it."""
    spend = paid(accounts(), request(tier=asked), tier=served)
    assert (spend.nanousd, spend.usage.tier, spend.billed) == (nanousd, line, False)


def test_a_discount_that_an_endpoint_has_not_confirmed_is_not_reserved_again() -> None:
    """Else the calls in flight would cost twice what was reserved for them."""
    own = accounts()
    flex = request(tier="flex")
    paid(own, flex, tier="flex")
    assert own.reserve(flex) == (2024, FLEX)
    paid(own, flex, tier=None)
    assert own.reserve(flex) == (2024, DEFAULT)
    assert own.reserve(request(tier="priority")) == (2024, PRIORITY)
    assert own.reserve(flex.model_copy(update={"role": Role.ROOT})) == (2024, FLEX)


def test_the_endpoints_own_bill_wins_over_a_published_price() -> None:
    spend = paid(accounts(), request(), billed_nanousd=7)
    assert (spend.nanousd, spend.billed) == (7, True)
    assert paid(accounts(), request("no-such-model"), billed_nanousd=0).nanousd == 0


def test_a_users_own_prices_win_over_the_bill(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"mine": {"input": 1, "output": 0}}))
    own = accounts(tmp_path / "p.json")
    assert paid(own, request("mine"), billed_nanousd=7) == Spend(
        "mine", Usage(input_tokens=1000, output_tokens=1024, billed_nanousd=7), 1_000_000
    )
    assert paid(own, request("gpt-5"), billed_nanousd=7).nanousd == 7


def test_without_a_bill_an_unknown_price_is_unknown() -> None:
    assert paid(accounts(), request("no-such-model")).nanousd is None
    assert paid(accounts(url="http://localhost:1/v1"), request()).nanousd is None


def test_a_tier_is_part_of_the_call_id_only_if_it_is_asked_for() -> None:
    """The first id is that of versions without tiers."""
    names = CallIds("j")
    hello = CallRequest(role=Role.SUB, model="m", messages=(Message(role="user", content="x" * 400),))
    assert names.name(hello) == "e83e51e25c37c7ccfc24da1a#1"
    assert names.name(hello.model_copy(update={"tier": "flex"})).endswith("#1")
