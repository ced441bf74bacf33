"""Several endpoints of one role, over real HTTP: weights, failover, and who is paid."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from rlm_dist.errors import FailureKind
from rlm_dist.llm import LLM, RetryPolicy
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.failures import HTTPRefusal
from rlm_dist.schema import CallRequest, CallResult, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.garbage import freed_without_collector

NOWHERE = "http://127.0.0.1:1/v1"  # nothing listens on this reserved port
FAST = RetryPolicy(base_s=0.001, cap_s=0.005)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Endpoints and clients, closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


def served_by(stack: ExitStack, *faults: Fault) -> SimulatedEndpoint:
    """A running endpoint."""
    return stack.enter_context(SimulatedEndpoint(faults=list(faults)))


def llm_of(stack: ExitStack, *endpoints: Endpoint, retry: RetryPolicy = FAST) -> LLM:
    """A model client of these endpoints for the sub role."""
    llm = LLM({Role.SUB: endpoints}, call_timeout_s=20, retry=retry)
    stack.callback(llm.close)
    return llm


def ask(llm: LLM, calls: int, *, at_once: int) -> Sequence[CallResult]:
    """The results of ``count`` different calls, in the order they were made."""
    results: list[CallResult] = []
    for start in range(0, calls, at_once):
        futures = [
            llm.submit(
                CallRequest(
                    role=Role.SUB, model="auto", messages=(Message(role="user", content=f"Who is {n}?"),)
                )
            )
            for n in range(start, min(calls, start + at_once))
        ]
        results += [future.result(60) for future in futures]
    return results


def status(code: int, **headers: str) -> Fault:
    """A fault that answers everything with an HTTP status."""
    return Fault(kind="status", status=code, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_refusal_does_not_keep_its_prompt_in_memory(stack: ExitStack) -> None:
    llm = llm_of(stack, Endpoint(served_by(stack, Fault(kind="status", status=500, on=(0, 1))).url))
    with freed_without_collector(HTTPRefusal):
        (result,) = ask(llm, 1, at_once=1)
        assert (result.attempts, result.failure) == (3, None)


def test_calls_go_by_weight(stack: ExitStack) -> None:
    """Of 400 calls at 3 to 1, the first should get 300; 240 to 360 is seven deviations either way."""
    heavy, light = served_by(stack), served_by(stack)
    results = ask(llm_of(stack, Endpoint(heavy.url, weight=3), Endpoint(light.url)), 400, at_once=16)
    assert all(result.completion for result in results)
    assert heavy.served.by_role["sub"] + light.served.by_role["sub"] == 400
    assert 240 <= heavy.served.by_role["sub"] <= 360


def test_what_was_served_says_by_whom(stack: ExitStack) -> None:
    """Without it the call could not be priced; with a single endpoint nothing needs to be said."""
    first, second = served_by(stack), served_by(stack)
    several = ask(llm_of(stack, Endpoint(first.url), Endpoint(second.url)), 60, at_once=10)
    by_whom = [result.completion.endpoint for result in several if result.completion]
    assert by_whom.count(first.url) == first.served.by_role["sub"]
    assert by_whom.count(second.url) == second.served.by_role["sub"]
    (alone,) = ask(llm_of(stack, Endpoint(first.url)), 1, at_once=1)
    assert alone.completion is not None
    assert "endpoint" not in alone.completion.model_dump()


@pytest.mark.parametrize("fault", [status(500), status(429), status(429, retry_after="600"), status(401)])
def test_another_endpoint_does_what_one_refuses(stack: ExitStack, fault: Fault) -> None:
    broken, well = served_by(stack, fault), served_by(stack)
    results = ask(llm_of(stack, Endpoint(broken.url), Endpoint(well.url)), 100, at_once=20)
    assert [result.failure for result in results] == [None] * 100
    assert well.served.by_role["sub"] == 100
    assert any(result.attempts > 1 for result in results)


def test_one_that_cannot_be_reached_is_left_out(stack: ExitStack) -> None:
    """With one call after another: no more go there after three failures."""
    well = served_by(stack)
    results = ask(llm_of(stack, Endpoint(NOWHERE, model="m"), Endpoint(well.url)), 60, at_once=1)
    assert [result.failure for result in results] == [None] * 60
    assert [result.attempts for result in results].count(2) == 3


def test_a_name_of_its_own_at_each_endpoint(stack: ExitStack) -> None:
    first, second = served_by(stack), served_by(stack)
    names = {"simulated-sub": "simulated-root"}
    llm = llm_of(
        stack,
        Endpoint(first.url, model="simulated-sub"),
        Endpoint(second.url, model="simulated-sub", models=names),
    )
    seen = {
        (result.completion.endpoint, result.completion.model)
        for result in ask(llm, 60, at_once=10)
        if result.completion
    }
    assert seen == {(first.url, "simulated-sub"), (second.url, "simulated-root")}


def test_only_when_every_key_is_refused_does_a_call_end_so(stack: ExitStack) -> None:
    first, second = served_by(stack, status(401)), served_by(stack, status(402))
    (result,) = ask(llm_of(stack, Endpoint(first.url), Endpoint(second.url)), 1, at_once=1)
    assert result.failure is not None
    assert result.failure.kind in (FailureKind.AUTH, FailureKind.QUOTA)
    assert sorted(result.failed_attempts) == ["auth", "quota"]


def test_with_all_out_of_reach_a_call_ends_after_its_retries(stack: ExitStack) -> None:
    (result,) = ask(
        llm_of(stack, Endpoint(NOWHERE, model="m"), Endpoint("http://127.0.0.1:2/v1", model="m")),
        1,
        at_once=1,
    )
    assert result.failure is not None
    assert result.failure.kind == FailureKind.TRANSIENT
    assert result.attempts == FAST.attempts
