"""A call of the flex tier that finds no room there is made at the default tier, if the budget has room."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm import LLM, RetryPolicy
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.root_calls import RootCalls
from rlm_dist.schema import NANO, Answer, CallParameters, JobSpec, Message, Role
from rlm_dist.schema.events import Event, SubCallsAnswered
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.store import Store
from rlm_dist.sub_worker.calls import SubCalls
from rlm_dist.worker.accounts import Accounts
from tests.support.store_values import running_job

FAST = RetryPolicy(base_s=0.001, cap_s=0.005, rate_attempts=6)
NO_ROOM = Fault(kind="status", status=429, error={"message": "busy", "code": "resource_unavailable"})
PRICES = {"m": {"input": 0, "output": 10, "tiers": {"flex": {"input": 0, "output": 5}}}}
# What is reserved for the 1024 tokens of output that a call is expected to have.
AT_DEFAULT = 10_240_000
HELLO = (Message(role="user", content="q"),)


class Cluster:
    """One job with a budget, a root worker's and a sub worker's calls, and an endpoint."""

    def __init__(
        self, stack: ExitStack, store: Store, client: redis.Redis, home: Path, max_nanousd: int
    ) -> None:
        self.store = store
        self.events: list[Event] = []
        self.endpoint = stack.enter_context(SimulatedEndpoint(faults=[NO_ROOM], models=["m"]))
        epoch = running_job(store, max_nanousd=max_nanousd)
        spec = self._flex(store.jobs.get("j").spec)
        prices = home / "prices.json"
        prices.write_text(json.dumps(PRICES))
        endpoints = dict.fromkeys(Role, (Endpoint(self.endpoint.url),))
        llm = LLM(endpoints, call_timeout_s=20, retry=FAST)
        stack.callback(llm.close)

        def accounts() -> Accounts:  # each worker has its own
            return Accounts(prices=Prices(prices), endpoints=endpoints, resolve=llm.resolve_model)

        payloads = Payloads(
            store=store, blobs=open_blobs("redis", home=home, client=client, retention_s=1000)
        )
        self.subs = SubCalls(
            calls=store.calls, llm=llm, owner="sub-1", slots=4, wants_more=lambda: None, payloads=payloads,
            accounts=accounts(),
        )  # fmt: skip
        shared: dict[str, Any] = {"payloads": payloads, "accounts": accounts()}
        stack.enter_context(closing(self.subs))
        self.fan_out = FanOut(
            spec=spec, epoch=epoch, store=store, send=self._send, queue_is_empty=lambda: True,
            emit=self.events.append, **shared,
        )  # fmt: skip
        stack.enter_context(closing(self.fan_out))
        self.root = RootCalls(
            spec=spec,
            epoch=epoch,
            owner="root-1",
            calls=store.calls,
            llm=llm,
            emit=self.events.append,
            **shared,
        )

    def _flex(self, spec: JobSpec) -> JobSpec:
        flex = CallParameters(tier="flex")
        return spec.model_copy(
            update={"model": "m", "sub_model": "m", "root_parameters": flex, "sub_parameters": flex}
        )

    def _send(self, job_id: str, turn: int, chunks: Sequence[Sequence[str]], traceparent: str | None) -> None:
        for chunk in chunks:
            self.subs.run(job_id, chunk)

    def ask_sub(self) -> Answer:
        """Make one sub-call."""
        (answer,) = self.fan_out.query([HELLO], None)
        return answer

    def served(self) -> dict[str, int]:
        """How many requests of each tier the endpoint got."""
        return {key.split(" ", 1)[1]: n for key, n in self.endpoint.served.by_parameters.items()}


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, store: Store, redis_client: redis.Redis, tmp_path: Path
) -> Iterator[Cluster]:
    """A cluster whose job has the budget of the parameter."""
    with ExitStack() as stack:
        yield Cluster(stack, store, redis_client, tmp_path, request.param)


ENOUGH = pytest.mark.parametrize("cluster", [AT_DEFAULT], indirect=True)
TOO_LITTLE = pytest.mark.parametrize("cluster", [AT_DEFAULT - 1], indirect=True)
FLEX = '{"service_tier": "flex"}'


def paid(cluster: Cluster) -> float:
    """What the job paid, which must be what its only answer costs at the default tier."""
    costs = cluster.store.jobs.costs("j")
    tokens = costs.sub_output_tokens + costs.root_output_tokens
    assert costs.tiers == {"default": tokens * 10_000 / NANO}
    assert cluster.store.audits.job("j").differences == []
    return costs.total_cost or 0.0


@ENOUGH
def test_a_sub_call_falls_back_within_the_budget(cluster: Cluster) -> None:
    cluster.endpoint.faults = (NO_ROOM.model_copy(update={"on": (0, 1, 2)}),)
    assert cluster.ask_sub().text is not None
    assert cluster.served() == {FLEX: 3, "{}": 1}
    assert 0 < paid(cluster) <= AT_DEFAULT / NANO


@ENOUGH
def test_the_root_worker_learns_that_an_endpoint_does_not_confirm_the_discount(cluster: Cluster) -> None:
    cluster.endpoint.faults = (NO_ROOM.model_copy(update={"on": (0, 1, 2)}),)
    cluster.ask_sub()  # served by the default tier, of which this endpoint says nothing
    refused = cluster.ask_sub().failure
    assert refused is not None
    assert (refused.kind, "max_usd" in refused.message) == (FailureKind.LIMIT, True)


@ENOUGH
def test_a_root_call_falls_back_within_the_budget(cluster: Cluster) -> None:
    cluster.endpoint.faults = (NO_ROOM.model_copy(update={"on": (0, 1, 2)}),)
    assert cluster.root.complete(HELLO).usage.tier is None
    assert cluster.served() == {FLEX: 3, "{}": 1}
    assert 0 < paid(cluster) <= AT_DEFAULT / NANO


@TOO_LITTLE
def test_a_call_beyond_the_budget_keeps_to_flex(cluster: Cluster) -> None:
    failure = cluster.ask_sub().failure
    assert failure is not None
    assert failure.kind == FailureKind.RATE
    with pytest.raises(CallError, match="rate"):
        cluster.root.complete(HELLO)
    assert cluster.served() == {FLEX: 12}
    assert cluster.store.jobs.costs("j").total_cost == 0


@TOO_LITTLE
def test_what_flex_serves_is_paid_and_traced_as_such(cluster: Cluster) -> None:
    """The budget would not do for one call at the default price."""
    cluster.endpoint.faults = ()
    assert cluster.ask_sub().tier == "flex"
    assert cluster.root.complete(HELLO).usage.tier == "flex"
    (line, other) = cluster.store.jobs.model_costs("j")
    assert (line.role, line.tier, line.cost) == (Role.ROOT, "flex", line.output_tokens * 5_000 / NANO)
    assert (other.role, other.tier, other.cost) == (Role.SUB, "flex", other.output_tokens * 5_000 / NANO)
    (event,) = cluster.events
    assert isinstance(event, SubCallsAnswered)
    assert event.tiers == {"flex": 1}
