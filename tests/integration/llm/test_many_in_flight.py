"""As many requests are in flight as there are slots: nothing below the slots holds any back unseen."""

from contextlib import closing

from rlm_dist.llm import LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.waiting import wait_until

_SLOTS = 1500


def _ask(text: str) -> CallRequest:
    return CallRequest(role=Role.SUB, model="simulated-sub", messages=(Message(role="user", content=text),))


def test_every_slot_has_its_request_on_the_wire() -> None:
    """1,500 slots: the endpoint holds 1,500 requests at once, and answers all."""
    with SimulatedEndpoint(faults=[Fault(kind="hold")]) as endpoint:
        llm = LLM({Role.SUB: (Endpoint(endpoint.url),)}, call_timeout_s=120, slots=_SLOTS)
        with closing(llm):
            futures = [llm.submit(_ask(f"{n}")) for n in range(_SLOTS + 100)]
            wait_until(lambda: endpoint.served.in_flight == _SLOTS)
            endpoint.release()
            assert all(future.result().completion for future in futures)
            assert endpoint.served.max_in_flight == _SLOTS
