"""As many requests are in flight as there are slots: nothing below the slots holds any back unseen."""

from contextlib import ExitStack, closing

from rlm_dist.llm import LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.schema import CallRequest, Message, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.worker.model_client import EndedCall
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


def made(url: str) -> LLM:
    return LLM({Role.SUB: (Endpoint(url),)}, call_timeout_s=60)


def test_a_call_that_is_started_without_a_future_is_aborted_and_told_so() -> None:
    ends: list[EndedCall] = []
    with ExitStack() as stack:
        endpoint = stack.enter_context(SimulatedEndpoint(faults=[Fault(kind="hang")]))
        llm = stack.enter_context(closing(made(endpoint.url)))
        abort = llm.start(_ask("x"), "j", None, ends.append)
        wait_until(lambda: endpoint.served.in_flight == 1)
        assert ends == []
        abort()
        wait_until(lambda: endpoint.served.aborted == 1)
        wait_until(lambda: len(ends) == 1)
        (end,) = ends
        assert end.cancelled()
        abort()


def test_a_started_call_tells_its_result() -> None:
    ends: list[EndedCall] = []
    with ExitStack() as stack:
        endpoint = stack.enter_context(SimulatedEndpoint())
        stack.enter_context(closing(made(endpoint.url))).start(_ask("x"), "j", None, ends.append)
        wait_until(lambda: len(ends) == 1)
        (end,) = ends
        assert (end.cancelled(), end.exception()) == (False, None)
        assert end.result().completion is not None
