"""One real call of a model, as ``doctor --call`` makes it: once, and with the endpoint's own words."""

import pytest

from rlm_dist.errors import CallError, FailureKind, Unreachable
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.trial_call import try_call
from rlm_dist.simulated import Fault, SimulatedEndpoint


def endpoint_at(url: str, model: str = "auto") -> Endpoint:
    return Endpoint(url=url, model=model)


def test_a_model_that_answers_is_called_once() -> None:
    with SimulatedEndpoint() as endpoint:
        result = try_call(endpoint_at(endpoint.url))
        assert result.completion is not None
        assert result.completion.model == "simulated-root"
        assert endpoint.served.requests == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(401, FailureKind.AUTH), (400, FailureKind.INVALID), (429, FailureKind.RATE)]
)
def test_a_refusal_is_told_and_not_tried_again(status: int, kind: FailureKind) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="status", status=status)]) as endpoint:
        with pytest.raises(CallError) as caught:
            try_call(endpoint_at(endpoint.url, "simulated-root"))
        assert caught.value.kind == kind
        assert endpoint.served.requests == 1


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        try_call(endpoint_at("http://127.0.0.1:9/v1", "m"))
