"""What a call is worth before and after it is made."""

import json
from pathlib import Path

import pytest

from rlm_dist.errors import CallError
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import CallRequest, CallResult, Completion, Message, Role, Usage
from rlm_dist.worker.accounts import Accounts
from rlm_dist.worker.call_ids import CallIds

HELLO = (Message(role="user", content="x" * 400),)
USAGE = Usage(input_tokens=10, output_tokens=1)


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    """A price list with one model, at 1 USD a million tokens."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"mine": {"input": 1, "output": 1}}))
    return Prices(path)


def accounts(prices: Prices, *listed: str) -> Accounts:
    """``auto`` stands for these models, one for each lookup; then the endpoint cannot be reached."""
    rest = list(listed)

    def resolve(role: Role, name: str) -> str:
        if not rest:
            raise CallError("transient", "refused")
        return rest.pop(0)

    endpoints = dict.fromkeys(Role, (Endpoint("http://127.0.0.1:1/v1"),))
    return Accounts(prices=prices, endpoints=endpoints, resolve=resolve)


def request(model: str, role: Role = Role.SUB) -> CallRequest:
    return CallRequest(role=role, model=model, messages=HELLO)


def paid(own: Accounts, asked: str, answered: str) -> int | None:
    """The cost of a call to one model that another model answers."""
    done = Completion(text="", usage=USAGE, finish_reason="stop", model=answered)
    settlement = own.settlement("c", request(asked), CallResult(completion=done), "")
    assert settlement.spend is not None
    return settlement.spend.nanousd


@pytest.mark.parametrize(
    ("role", "finish", "truncated"),
    [(Role.SUB, "length", True), (Role.SUB, "stop", False), (Role.ROOT, "length", False)],
)
def test_33_sub_answers_that_were_cut_off_are_counted(
    prices: Prices, role: Role, finish: str, truncated: bool
) -> None:
    done = Completion(text="x", usage=USAGE, finish_reason=finish, model="mine")
    settlement = accounts(prices).settlement("c", request("mine", role), CallResult(completion=done), "")
    assert settlement.truncated is truncated


def test_the_price_of_a_call_is_set_aside_or_unknown(prices: Prices) -> None:
    own = accounts(prices)
    assert own.reserve(request("mine")) == (100 + 1024, 1_124_000)
    assert own.reserve(request("other")) == (100 + 1024, None)


def test_the_output_that_is_allowed_is_set_aside(prices: Prices) -> None:
    asked = request("mine").model_copy(update={"max_output_tokens": 50})
    assert accounts(prices).reserve(asked) == (150, 150_000)


def test_each_parameter_is_part_of_the_call_id() -> None:
    given: list[dict[str, object]] = [
        {}, {"temperature": 0.0}, {"max_output_tokens": 5}, {"reasoning_effort": "low"},
        {"reasoning_effort": "high"}, {"extra_body": {"top_p": 0.5}}, {"extra_body": {"top_p": 0.6}},
    ]  # fmt: skip
    names = CallIds("j")
    assert {names.name(request("m").model_copy(update=each))[-2:] for each in given} == {"#1"}


def test_a_call_without_parameters_has_the_id_that_earlier_versions_gave_it() -> None:
    assert CallIds("j").name(request("m")) == "e83e51e25c37c7ccfc24da1a#1"


def test_auto_has_the_price_of_the_model_that_it_means(prices: Prices) -> None:
    own = accounts(prices, "mine")
    for _ in range(2):
        assert own.reserve(request("auto")) == (100 + 1024, 1_124_000)
    assert own.resolved(Role.SUB, "auto") == "mine"


def test_an_endpoint_that_cannot_be_asked_makes_no_price_unknown(prices: Prices) -> None:
    """The call itself discovers the outage, and is retried as usual."""
    own = accounts(prices)
    assert own.reserve(request("auto")) == (100 + 1024, 0)
    assert own.resolved(Role.SUB, "auto") == "auto"


def test_a_call_costs_what_the_model_costs_that_answered_or_else_the_one_that_was_asked(
    prices: Prices,
) -> None:
    own = accounts(prices)
    assert paid(own, "other", "mine") == 11_000
    assert paid(own, "mine", "mine-2026-11-22") == 11_000
    assert paid(own, "other", "another") is None
