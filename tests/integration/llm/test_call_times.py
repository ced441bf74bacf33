"""A call tells when its first attempt began, and how long it waited before that."""

import time

from rlm_dist.llm.client import LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.retry import RetryPolicy
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.waiting import wait_until


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_the_first_attempt_counts_not_later_ones() -> None:
    faults = [Fault(kind="status", status=500, on=(0,)), Fault(kind="hold", on=(1,))]
    with SimulatedEndpoint(faults=faults) as endpoint:
        llm = LLM({Role.SUB: (Endpoint(endpoint.url),)}, call_timeout_s=60, retry=RetryPolicy(base_s=0.001))
        try:
            before_ms = _now_ms()
            message = Message(role="user", content="Who?")
            future = llm.submit(CallRequest(role=Role.SUB, model="simulated-sub", messages=(message,)))
            wait_until(lambda: endpoint.served.requests == 2)
            after_ms = _now_ms()
            endpoint.release()
            result = future.result()
        finally:
            llm.close()
    assert result.attempts == 2
    assert before_ms <= result.started_ms <= after_ms
    assert 0 <= result.waited_s < result.seconds
