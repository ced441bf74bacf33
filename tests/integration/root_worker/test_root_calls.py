"""The root model's calls of one job over a real store; a client that answers at once plays the endpoint."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.root_worker.root_calls import RecordCall, RootCalls
from rlm_dist.schema import CallParameters, CallRequest, CallResult, Completion, Message, Role, Usage
from rlm_dist.schema.events import Event, Marked
from rlm_dist.store import Settlement, Store
from rlm_dist.worker.accounts import Accounts
from tests.support.store_values import LEASE_MS, running_job, spec, start_job


class Refusing:
    """A model client whose model takes no temperature."""

    away = False

    def submit(
        self,
        request: CallRequest,
        job_id: str = "",
        may_fall_back: Callable[[], bool] | None = None,
        /,
    ) -> "Future[CallResult]":
        answer = Completion(
            text="re " + request.messages[-1].content, usage=Usage(input_tokens=1), finish_reason="stop",
            model="m", dropped_parameters=("temperature",),
        )  # fmt: skip
        future: Future[CallResult] = Future()
        future.set_result(CallResult(completion=answer))
        return future

    def drop(self, job_id: str, /) -> None:
        """There is nothing that waits."""

    def drain(self) -> None:
        """There is nothing that waits."""


def root_calls(
    store: Store,
    client: redis.Redis,
    home: Path,
    epoch: int,
    events: list[Event],
    record: RecordCall = lambda *_: None,
) -> RootCalls:
    """The root model's calls for one run of the job."""
    blobs = open_blobs("redis", home=home, client=client, retention_s=1000)
    return RootCalls(
        spec=store.jobs.get("j").spec, epoch=epoch, owner="root-1", calls=store.calls,
        payloads=Payloads(store=store, blobs=blobs), llm=Refusing(), emit=events.append,
        accounts=Accounts(
            prices=Prices(None), endpoints=dict.fromkeys(Role, (Endpoint("http://x"),)),
            resolve=lambda _, name: "m",
        ),
        record=record,
    )  # fmt: skip


def test_parameters_that_the_model_does_not_take_are_marked_once(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """A later run of the job takes the answers from the store, and does not mark them again."""
    epoch = running_job(store)
    events: list[Event] = []
    for _ in range(2):
        calls = root_calls(store, redis_client, tmp_path, epoch, events)
        texts = [calls.complete([Message(role="user", content=text)]).text for text in ("a", "b")]
        assert texts == ["re a", "re b"]
    assert events == [Marked(turn=0, kind="parameters_not_taken", detail="temperature")]


def test_only_calls_that_are_made_are_recorded(
    store: Store, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """A later run of the job takes the answers from the store; their spans were sent."""
    epoch = running_job(store)
    recorded: list[tuple[str, int]] = []

    def record(request: CallRequest, result: CallResult, settlement: Settlement) -> None:
        assert settlement.spend is not None
        recorded.append((request.messages[-1].content, settlement.spend.usage.input_tokens))

    for _ in range(2):
        calls = root_calls(store, redis_client, tmp_path, epoch, [], record)
        for text in ("a", "b"):
            calls.complete([Message(role="user", content=text)])
    assert recorded == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(("max_tokens", "reached"), [(6000, None), (4000, "max_tokens")])
def test_there_is_room_for_two_calls_if_the_first_uses_what_is_usual(
    store: Store, redis_client: redis.Redis, tmp_path: Path, max_tokens: int, reached: str | None
) -> None:
    """The most that a call may write is reserved for the second one alone."""
    parameters = CallParameters(max_output_tokens=1000)
    job = spec(max_tokens=max_tokens).model_copy(update={"root_parameters": parameters})
    store.jobs.create([job])
    epoch = start_job(store, "j", "root-1", LEASE_MS) or 0
    calls = root_calls(store, redis_client, tmp_path, epoch, [])
    chat = "x" * 4000
    calls.complete([Message(role="user", content=chat)])
    limit = calls.keep_room_for_two(len(chat))
    assert (limit.kind if limit else None) == reached
    assert store.audits.job("j").differences == []
