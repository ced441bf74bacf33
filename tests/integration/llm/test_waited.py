"""A result says which part of its time was waiting for a slot."""

import time
from contextlib import closing

from rlm_dist.llm import LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.waiting import wait_until


def ask(text: str) -> CallRequest:
    return CallRequest(role=Role.SUB, model="auto", messages=(Message(role="user", content=text),))


def test_a_call_that_waits_for_a_slot_says_for_how_long() -> None:
    with SimulatedEndpoint() as endpoint:
        endpoint.faults = (Fault(kind="hold", on=(0,)),)
        endpoints = dict.fromkeys(Role, (Endpoint(endpoint.url),))
        with closing(LLM(endpoints, call_timeout_s=60, slots=1)) as llm:
            first = llm.submit(ask("first"))
            wait_until(lambda: endpoint.served.in_flight == 1)
            second = llm.submit(ask("second"))
            llm.models(Role.SUB)  # the loop has begun the second call before it answers this
            began = time.monotonic()
            held_s = time.monotonic() - began
            endpoint.release()
            results = [future.result(60) for future in (first, second)]
    assert results[1].seconds >= results[1].waited_s >= held_s
    assert results[0].waited_s < results[0].seconds
    assert all(result.completion is not None for result in results)
