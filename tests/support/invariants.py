"""What must hold after any death: jobs are final, answers are right, ledgers match the endpoint."""

from collections.abc import Iterable

from rlm_dist.schema import Costs, Result
from rlm_dist.schema.events import Event, JobEnded, JobStarted
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import Bench


def models_of(name: str) -> dict[str, str]:
    """Models of this job alone, so that the endpoint counts it separately."""
    return {"model": f"root-{name}", "sub_model": f"sub-{name}"}


def served(endpoint: SimulatedEndpoint, model: str) -> int:
    """The number of calls of a model that the endpoint answered."""
    found = endpoint.served.by_model.get(model)
    return found.requests if found else 0


def served_tokens(endpoint: SimulatedEndpoint, model: str) -> int:
    """The number of tokens of a model that the endpoint reported."""
    found = endpoint.served.by_model.get(model)
    return found.usage.input_tokens + found.usage.output_tokens if found else 0


def lost_answers(endpoint: SimulatedEndpoint, name: str, costs: Costs) -> tuple[int, int]:
    """The root and sub calls that were answered but are in no ledger: a worker died with the answer."""
    models = models_of(name)
    return (
        served(endpoint, models["model"]) - costs.root_llm_calls,
        served(endpoint, models["sub_model"]) - costs.sub_llm_calls,
    )


def assert_ledger(endpoint: SimulatedEndpoint, name: str, result: Result) -> None:
    """Check that the ledger is exact except for answers that died with a worker, which must be counted."""
    costs = result.costs
    roots, subs = lost_answers(endpoint, name, costs)
    assert roots >= 0
    assert subs >= 0
    assert roots + subs <= costs.duplicate_paid_calls
    if roots + subs == 0:
        models = models_of(name)
        assert costs.root_llm_tokens == served_tokens(endpoint, models["model"])
        assert costs.sub_llm_tokens == served_tokens(endpoint, models["sub_model"])


def assert_same_as_endpoint(bench: Bench, endpoint: SimulatedEndpoint, results: Iterable[Result]) -> None:
    """Check that all ledgers add up to the endpoint's count, except for answers that died with a worker."""
    costs = [result.costs for result in results]
    paid = sum(cost.root_llm_calls + cost.sub_llm_calls for cost in costs)
    twice = sum(cost.duplicate_paid_calls for cost in costs)
    assert paid <= endpoint.served.answered <= paid + twice
    if paid == endpoint.served.answered:
        usage = endpoint.served.usage
        tokens = sum(cost.root_llm_tokens + cost.sub_llm_tokens for cost in costs)
        assert tokens == usage.input_tokens + usage.output_tokens


def epochs(events: Iterable[Event]) -> list[int]:
    """The epoch of each time that a worker started the job."""
    return [event.epoch for event in events if isinstance(event, JobStarted)]


def ends(events: Iterable[Event]) -> int:
    """How often a worker reached the job's end."""
    return sum(isinstance(event, JobEnded) for event in events)
