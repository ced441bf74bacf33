"""The flex lane: longer time-outs, and the default tier if flex has no room and the budget has."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest

from rlm_dist.errors import FailureKind, Unreachable
from rlm_dist.llm import LLM, RetryPolicy
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, CallResult, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint

FAST = RetryPolicy(base_s=0.001, cap_s=0.005, rate_attempts=8)
OPENAI = {"message": "Resource unavailable", "type": "rate_limit_error", "code": "resource_unavailable"}
IN_WORDS = {"message": "Resource Unavailable: try again later", "type": "", "code": "429"}
GROQ = {"message": "Flex tier capacity exceeded", "type": "capacity_exceeded"}
REFUSALS = [
    Fault(kind="status", status=429, error=dict(OPENAI)),
    Fault(kind="status", status=429, error=dict(IN_WORDS)),
    Fault(kind="status", status=498, error=dict(GROQ)),
]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test opens, closed at its end."""
    with ExitStack() as opened:
        yield opened


def served_by(stack: ExitStack, *faults: Fault) -> SimulatedEndpoint:
    """A running endpoint."""
    return stack.enter_context(SimulatedEndpoint(faults=faults))


def llm_of(
    stack: ExitStack, endpoint: SimulatedEndpoint, timeout_s: float = 20, retry: RetryPolicy = FAST
) -> LLM:
    """A model client of this endpoint."""
    llm = LLM(dict.fromkeys(Role, (Endpoint(endpoint.url),)), call_timeout_s=timeout_s, retry=retry)
    stack.callback(llm.close)
    return llm


def request(**fields: Any) -> CallRequest:
    """A sub-call."""
    return CallRequest(role=Role.SUB, model="auto", messages=(Message(role="user", content="q"),), **fields)


def tiers_asked(endpoint: SimulatedEndpoint) -> dict[str, int]:
    """How many requests asked for a tier or, as ``{}``, for none."""
    return {key.removeprefix("sub "): count for key, count in endpoint.served.by_parameters.items()}


FLEX = '{"service_tier": "flex"}'


def test_the_tier_is_asked_for_and_the_one_that_served_is_known(stack: ExitStack) -> None:
    endpoint = served_by(stack)
    result = llm_of(stack, endpoint).submit(request(tier="flex")).result()
    assert result.completion is not None
    assert result.completion.usage.tier == "flex"
    assert tiers_asked(endpoint) == {FLEX: 1}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("fields", [{"tier": "flex"}, {"extra_body": {"service_tier": "flex"}}])
def test_without_room_in_flex_the_default_tier_serves(
    stack: ExitStack, refusal: Fault, fields: dict[str, Any]
) -> None:
    endpoint = served_by(stack, refusal.model_copy(update={"on": tuple(range(3))}))
    result = llm_of(stack, endpoint).submit(request(**fields), "j", lambda: True).result()
    assert result.completion is not None
    assert result.completion.usage.tier is None
    assert tiers_asked(endpoint) == {FLEX: 3, "{}": 1}
    assert result.failed_attempts == (FailureKind.RATE,) * 3


def test_room_that_comes_in_time_is_used(stack: ExitStack) -> None:
    endpoint = served_by(stack, REFUSALS[0].model_copy(update={"on": (0, 1)}))
    result = llm_of(stack, endpoint).submit(request(tier="flex"), "j", lambda: True).result()
    assert result.completion is not None
    assert result.completion.usage.tier == "flex"
    assert tiers_asked(endpoint) == {FLEX: 3}


def raises() -> bool:
    """The store cannot be asked."""
    raise Unreachable("Redis", "x", "down")


@pytest.mark.parametrize("may_fall_back", [None, lambda: False, raises])
def test_without_leave_a_call_keeps_to_flex_and_fails_as_any_rate_limit(
    stack: ExitStack, may_fall_back: Callable[[], bool] | None
) -> None:
    endpoint = served_by(stack, REFUSALS[0])
    result = llm_of(stack, endpoint).submit(request(tier="flex"), "j", may_fall_back).result()
    assert result.failure is not None
    assert result.failure.kind == FailureKind.RATE
    assert tiers_asked(endpoint) == {FLEX: 8}


def test_a_rate_limit_of_the_endpoint_does_not_raise_the_price(stack: ExitStack) -> None:
    endpoint = served_by(stack, Fault(kind="status", status=429, on=tuple(range(6))))
    result = llm_of(stack, endpoint).submit(request(tier="flex"), "j", lambda: True).result()
    assert result.completion is not None
    assert tiers_asked(endpoint) == {FLEX: 7}


def test_only_flex_falls_back(stack: ExitStack) -> None:
    endpoint = served_by(stack, REFUSALS[0].model_copy(update={"on": tuple(range(5))}))
    result = llm_of(stack, endpoint).submit(request(tier="priority"), "j", lambda: True).result()
    assert result.completion is not None
    assert tiers_asked(endpoint) == {'{"service_tier": "priority"}': 6}


def test_a_lack_of_room_in_flex_is_no_limit_of_the_endpoint(stack: ExitStack) -> None:
    """As many refusals of other calls would make every worker wait."""
    endpoint = served_by(stack, REFUSALS[0].model_copy(update={"on": tuple(range(60))}))
    llm = llm_of(stack, endpoint, retry=RetryPolicy(base_s=0.001, cap_s=0.005, rate_attempts=60))
    futures: list[Future[CallResult]] = [llm.submit(request(tier="flex")) for _ in range(20)]
    assert all(future.result().completion for future in futures)
    limiter = llm._limits.limiter(endpoint.url, "auto")
    assert limiter.blocked_until == 0
    assert limiter._permits._refused == 0


def test_flex_waits_longer_than_the_time_limit_of_other_calls(stack: ExitStack) -> None:
    endpoint = served_by(stack, Fault(kind="hold"))
    llm = llm_of(stack, endpoint, timeout_s=0.2)
    flex = llm.submit(request(tier="flex"))
    other = llm.submit(request()).result()
    assert other.failure is not None
    assert other.failure.kind == FailureKind.TIMEOUT
    assert not flex.done()
    endpoint.release()
    assert flex.result().completion is not None
