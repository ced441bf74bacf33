"""Identical calls of several processes: made once, waited for by all, taken over if the caller dies."""

from collections.abc import Callable, Iterator

import pytest

from rlm_dist.llm import LLM, RetryPolicy
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.single_flight import SingleFlightCache
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.store import Store, connect
from rlm_dist.store.keys import cached
from tests.support.scripts import script
from tests.support.waiting import wait_until

MakeLLM = Callable[..., LLM]

# Makes one call that never ends.
MAKER = """
import sys
from rlm_dist.llm.single_flight import SingleFlightCache
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm import LLM
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.store import Store, connect

url, redis_url = sys.argv[1:]
store = Store(connect(redis_url, client_name="maker"), retention_s=1000)
endpoint = Endpoint(url, None, "simulated-sub")
cache = SingleFlightCache(store.cache, ttl_s=1000, lease_ms=500)
llm = LLM(dict.fromkeys(Role, (endpoint,)), call_timeout_s=600, cache=cache)
message = Message(role="user", content="Who?")
llm.submit(CallRequest(role=Role.SUB, model="auto", messages=(message,), cache=True)).result()
"""


@pytest.fixture
def make_llm(redis_url: str) -> Iterator[MakeLLM]:
    """Model clients that share a cache, each as if in a separate process."""
    made: list[LLM] = []
    with connect(redis_url, client_name="test") as client:

        def make(url: str, *, keep_thoughts: bool = False) -> LLM:
            store = Store(client, retention_s=1000)
            endpoint = Endpoint(url, None, "simulated-sub")
            cache = SingleFlightCache(store.cache, ttl_s=1000, keep_thoughts=keep_thoughts)
            retry = RetryPolicy(base_s=0.001, cap_s=0.005)
            made.append(
                LLM(
                    dict.fromkeys(Role, (endpoint,)), call_timeout_s=60, retry=retry, cache=cache,
                    keep_thoughts=keep_thoughts,
                )
            )  # fmt: skip
            return made[-1]

        yield make
        for llm in made:
            llm.close()
        assert all(client.ttl(key) > 0 for key in client.scan_iter("rlm:cache:*"))


def ask(text: str = "Who?", *, cache: bool = True, temperature: float | None = None) -> CallRequest:
    """A call with one user message."""
    message = Message(role="user", content=text)
    return CallRequest(role=Role.SUB, model="auto", messages=(message,), cache=cache, temperature=temperature)


def test_identical_calls_in_flight_are_made_once(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hold")]) as endpoint:
        llms = [make_llm(endpoint.url) for _ in range(2)]
        futures = [llm.submit(ask()) for llm in llms for _ in range(5)]
        others = [llm.submit(ask("Where?")) for llm in llms]
        wait_until(lambda: endpoint.served.in_flight == 2)
        endpoint.release()
        results = [future.result() for future in futures]
        assert len({result.completion and result.completion.text for result in results}) == 1
        assert sorted(result.cached for result in results) == [False] + [True] * 9
        assert [result.attempts for result in results if result.cached] == [0] * 9
        assert [result.started_ms for result in results if result.cached] == [0] * 9
        assert sum(future.result().cached for future in others) == 1
        assert endpoint.served.requests == 2


@pytest.mark.parametrize(
    "request_", [ask(cache=False), ask(temperature=0.7)], ids=["not asked", "temperature"]
)
def test_a_call_that_is_to_be_made_anew_is(make_llm: MakeLLM, request_: CallRequest) -> None:
    with SimulatedEndpoint() as endpoint:
        llm = make_llm(endpoint.url)
        for _ in range(2):
            assert not llm.submit(request_).result().cached
        assert endpoint.served.requests == 2


@pytest.mark.parametrize(
    "fault", [Fault(kind="status", status=400, on=(0,)), Fault(kind="null_content", on=(0,))]
)
def test_a_failure_is_not_kept_and_the_next_one_makes_the_call(make_llm: MakeLLM, fault: Fault) -> None:
    with SimulatedEndpoint(faults=[fault]) as endpoint:
        llms = [make_llm(endpoint.url) for _ in range(2)]
        futures = [llm.submit(ask()) for llm in llms for _ in range(2)]
        results = [future.result() for future in futures]
        assert sum(result.failure is not None for result in results) == 1
        assert sum(result.cached for result in results) == 2
        assert endpoint.served.requests == 2


def test_34_a_cached_answer_is_the_text_that_its_caller_would_see(make_llm: MakeLLM) -> None:
    """A worker that keeps thoughts does not share its answers with one that drops them."""
    choice = {"message": {"content": "<think>hm</think>Paris"}, "finish_reason": "length"}
    with SimulatedEndpoint(faults=[Fault.model_validate({"kind": "choice", "choice": choice})]) as endpoint:
        llms = [make_llm(endpoint.url, keep_thoughts=keep) for keep in (True, False, True, False)]
        results = [llm.submit(ask()).result() for llm in llms]
        texts = [result.completion and result.completion.text for result in results]
        assert texts == ["<think>hm</think>Paris", "Paris"] * 2
        assert [result.cached for result in results] == [False, False, True, True]
        assert all(result.completion and result.completion.truncated for result in results)


def test_a_call_whose_maker_is_killed_is_made_by_one_who_waits(make_llm: MakeLLM, redis_url: str) -> None:
    faults = [Fault(kind="hang", on=(0,))]
    with SimulatedEndpoint(faults=faults) as endpoint, script(MAKER, endpoint.url, redis_url) as maker:
        wait_until(lambda: endpoint.served.in_flight == 1)
        waiting = make_llm(endpoint.url).submit(ask())
        maker.kill()
        assert waiting.result().completion is not None
        assert endpoint.served.requests == 2


def test_a_cancelled_maker_leaves_the_call_to_the_next(make_llm: MakeLLM) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hang", on=(0,))]) as endpoint:
        llm = make_llm(endpoint.url)
        first = llm.submit(ask())
        wait_until(lambda: endpoint.served.in_flight == 1)
        second = llm.submit(ask())
        first.cancel()
        assert second.result().completion is not None


def test_a_late_end_takes_nothing_from_who_makes_the_call_now(store: Store) -> None:
    assert store.cache.take("d", "a", 1) == "lead"
    wait_until(lambda: store.cache.take("d", "b", 60_000) == "lead")
    store.cache.leave("d", "a", "", 1000)
    assert store.cache.take("d", "c", 60_000) == "wait"
    store.cache.leave("d", "b", "result", 1000)
    assert store.cache.take("d", "c", 60_000) == "result"
    assert len(cached("d")) == 2
