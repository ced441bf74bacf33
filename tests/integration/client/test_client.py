"""The Python API against a real server; the tests play the workers."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.client.batch_item import BatchItem
from rlm_dist.client.client import Client
from rlm_dist.client.options import JobOptions
from rlm_dist.contexts.encoding import encode_files
from rlm_dist.errors import InputError, NotFound, Unreachable
from rlm_dist.schema import (
    BatchState,
    CallParameters,
    JobLimits,
    JobState,
    Outcome,
    Role,
)
from rlm_dist.schema.events import JobEnded, Marked
from rlm_dist.settings import Settings
from rlm_dist.store import connect
from rlm_dist.store.trace import TraceSink
from tests.support.context_decoder import decode
from tests.support.played_jobs import LEASE_MS, ROOT_LIST, answered, pay, play
from tests.support.redis_servers import flavours, running
from tests.support.store_values import finish_job, start_job


@pytest.fixture
def server(redis_url: str, admin_url: str) -> Iterator[redis.Redis]:
    with connect(admin_url, client_name="test") as server:
        yield server


@pytest.fixture
def settings(server: redis.Redis, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, home=tmp_path / "home")


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


def messages(server: redis.Redis) -> list[dict[str, Any]]:
    """The messages in the root workers' queue, oldest first."""
    return [json.loads(raw) for raw in reversed(server.lrange(ROOT_LIST, 0, -1))]


def job_ids_sent(server: redis.Redis) -> list[str]:
    return [message["headers"]["argsrepr"].removeprefix("job=") for message in messages(server)]


def test_a_job_is_stored_with_its_context_and_sent(
    client: Client, server: redis.Redis, tmp_path: Path
) -> None:
    job = client.submit(["a", "b"], "How many?", max_usd=0.5, sub_model="small", metadata={"k": 1})
    spec = client.store.jobs.get(job.id).spec
    assert (spec.id, spec.custom_id, spec.batch_id, spec.query) == (job.id, job.id, None, "How many?")
    assert (spec.model, spec.sub_model, spec.metadata) == ("auto", "small", {"k": 1})
    assert spec.limits == JobLimits(max_nanousd=500_000_000, max_seconds=86_400, max_sub_calls=100_000)
    assert job_ids_sent(server) == [job.id]
    assert job.status() == JobState.QUEUED
    assert server.ttl(f"rlm:blob:{spec.context.sha256}") == -1


def test_a_message_holds_the_id_and_no_text(client: Client, server: redis.Redis) -> None:
    job = client.submit("the secret context", "the secret question")
    text = json.dumps(messages(server))
    assert job.id in text
    assert "secret" not in text


def test_defaults_of_a_job_come_from_the_settings(settings: Settings) -> None:
    own = {"model": "big", "max_iterations": 7, "max_output_chars": 900, "prompts": "small"}
    with Client(settings.model_copy(update=own)) as client:
        spec = client.store.jobs.get(client.submit("c", "q").id).spec
        assert (spec.model, spec.limits.max_iterations) == ("big", 7)
        assert (spec.max_output_chars, spec.prompts) == (900, "small")
        spec = client.store.jobs.get(client.submit("c", "q", model="other", max_iterations=3).id).spec
        assert (spec.model, spec.limits.max_iterations) == ("other", 3)


def test_parameters_are_those_of_the_job_the_batch_or_the_settings(settings: Settings) -> None:
    own = {"temperature": 0.5, "sub_extra_body": {"top_p": 0.1}, "extra_headers": SecretStr('{"a": "b"}')}
    item: dict[str, object] = {"id": "a", "query": "q", "context": "c"}
    items = [item, {**item, "id": "b", "temperature": 0, "sub_extra_body": {}}]
    with Client(settings.model_copy(update=own)) as client:
        jobs = client.submit_batch(items, max_output_tokens=90, sub_reasoning_effort="low").jobs()
        first, second = (client.store.jobs.get(job.id).spec for job in jobs)
    assert first.root_parameters == CallParameters(temperature=0.5, max_output_tokens=90)
    assert first.sub_parameters == CallParameters(reasoning_effort="low", extra_body={"top_p": 0.1})
    assert second.root_parameters == CallParameters(temperature=0, max_output_tokens=90)
    assert second.sub_parameters == CallParameters(reasoning_effort="low", extra_body={})


@pytest.mark.parametrize(
    "option",
    [
        {"temperature": -0.1}, {"sub_temperature": float("nan")}, {"max_output_tokens": 0},
        {"reasoning_effort": ""}, {"extra_body": {"model": "other"}}, {"sub_extra_body": {"stream": True}},
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(client: Client, option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(option))}: "):
        client.submit("c", "q", **option)


def test_what_becomes_of_a_job_that_diverges_is_said_for_a_batch_or_a_job(client: Client) -> None:
    items = [{"id": "a", "query": "q", "context": "c"}, {"id": "b", "query": "q", "context": "c"}]
    items[1]["on_divergence"] = "warn"
    batch = client.submit_batch(items, on_divergence="fail")
    assert [client.store.jobs.get(job.id).spec.on_divergence for job in batch.jobs()] == ["fail", "warn"]
    assert client.store.jobs.get(client.submit("c", "q").id).spec.on_divergence == "warn"
    with pytest.raises(InputError, match="on_divergence: input should be 'warn' or 'fail'"):
        client.submit("c", "q", on_divergence="stop")  # type: ignore[arg-type]  # mypy says so, too


def test_a_batch_has_budgets_of_its_own(client: Client, server: redis.Redis) -> None:
    """Given with the submission, and replaced by a later submission or retry."""
    items = [{"id": "a", "query": "q", "context": "c"}]

    def budgets() -> Sequence[object]:
        return server.hmget("rlm:batch:b", "max_nanousd", "max_tokens")

    client.submit_batch(items, "b", batch_max_usd=0.5, max_tokens=7)
    assert budgets() == ["500000000", None]
    (job,) = client.batch("b").jobs()
    limits = client.store.jobs.get(job.id).spec.limits
    assert (limits.max_tokens, limits.max_nanousd) == (7, None)
    client.submit_batch(items, "b", batch_max_tokens=9)
    assert budgets() == ["500000000", "9"]
    client.submit_batch(items, "b")
    client.retry("b", batch_max_usd=2)
    assert budgets() == ["2000000000", "9"]
    record = client.batch("b").record()
    assert (record.max_usd, record.max_tokens) == (2, 9)
    with pytest.raises(InputError, match="batch_max_tokens: input should be greater"):
        client.submit_batch(items, "c", batch_max_tokens=0)


def test_files_are_submitted_as_they_were_encoded(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a file", encoding="utf-8")
    job = client.submit(encode_files([tmp_path / "a.txt"]), "?")
    data = b"".join(client.blobs.read(client.store.jobs.get(job.id).spec.context.sha256))
    assert decode(data)[1] == ["from a file"]


def test_the_result_is_there_when_the_job_has_ended(client: Client) -> None:
    job = client.submit("c", "q")
    with pytest.raises(TimeoutError, match=f"{job.id} is still queued"):
        job.result(timeout=0.05)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(job.result)
        play(client.store, job.id, answered("42"))
        result = waiting.result(30)
    assert (result.state, result.answer, result.iterations) == (JobState.SUCCEEDED, "42", 2)
    assert result.error is None
    assert result.timing.run_s is not None
    assert client.job(job.id).result() == result


def test_bad_input_is_told_and_nothing_is_stored(client: Client, server: redis.Redis) -> None:
    bad: list[tuple[object, str, dict[str, Any]]] = [
        ("", "q", {}),
        ([], "q", {}),
        ("c", " ", {}),
        ("c", "q", {"max_cost": 1}),
        ("c", "q", {"max_iterations": 0}),
        ("c", "q", {"id": "mine"}),
    ]
    for context, query, options in bad:
        with pytest.raises(InputError):
            client.submit(context, query, **options)
    assert server.keys("rlm:*") == []
    with pytest.raises(
        InputError, match=r"max_usdd: is not known; did you mean max_usd\?\ncolour: is not known$"
    ):
        client.submit("c", "q", max_usdd=1, colour="red")  # type: ignore[call-arg]  # mypy says so, too


def test_a_queued_job_is_cancelled_at_once(client: Client) -> None:
    job = client.submit("c", "q")
    assert job.cancel() == JobState.CANCELLED
    assert job.result().state == JobState.CANCELLED
    assert list(job.events()) == []


def test_an_unknown_job_or_batch_is_said_to_be_unknown(client: Client) -> None:
    with pytest.raises(NotFound, match="no such job: nobody"):
        client.job("nobody").result()
    with pytest.raises(NotFound, match="no such batch: nobody"):
        next(client.batch("nobody").results())


def test_costs_are_those_of_the_ledger(client: Client) -> None:
    job = client.submit_batch([line(1)]).jobs()[0]
    pay(client.store, job.id, Role.ROOT, 2_000_000_000)
    pay(client.store, job.id, Role.SUB, 500_000_000)
    costs = job.cost()
    assert (costs.total_cost, costs.root_llm_cost, costs.sub_llm_calls) == (2.5, 2.0, 1)
    batch_id = client.store.jobs.get(job.id).spec.batch_id
    assert batch_id is not None
    assert client.batch(batch_id).cost() == costs


def test_after_its_last_event_a_job_is_not_waited_for_as_long_as_for_another_event(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome is stored a moment after the last event, and no event comes after it."""
    job = client.submit("c", "q")
    epoch = start_job(client.store, job.id, "worker", LEASE_MS)
    assert epoch is not None
    payloads = Payloads(store=client.store, blobs=client.blobs)
    emit = TraceSink(client.store.journals, job.id, payloads, now_ms=client.store.connection.clock())
    emit(JobEnded(state=JobState.SUCCEEDED, answer="42", error=None, iterations=2))
    emit.flush()
    waits: list[int | None] = []
    read = client.store.journals.read_events

    def finish_meanwhile(job_id: str, after: str, block_ms: int | None = None) -> Any:
        if block_ms is not None:
            waits.append(block_ms)
            finish_job(client.store, job.id, epoch, answered("42"))
        return read(job_id, after, block_ms=block_ms)

    monkeypatch.setattr(client.store.journals, "read_events", finish_meanwhile)
    assert len(list(job.events())) == 1
    assert len(waits) == 1
    assert max(wait or 0 for wait in waits) <= 50


def test_events_come_while_the_job_runs_and_end_with_it(client: Client) -> None:
    job = client.submit("c", "q")
    epoch = start_job(client.store, job.id, "worker", LEASE_MS)
    assert epoch is not None
    payloads = Payloads(store=client.store, blobs=client.blobs)
    emit = TraceSink(client.store.journals, job.id, payloads, now_ms=client.store.connection.clock())
    emit(Marked(turn=1, kind="first", detail="x" * 100_000))
    emit.flush()
    events = job.events()
    assert next(events) == Marked(turn=1, kind="first", detail="x" * 100_000)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: list(events))
        emit(Marked(turn=2, kind="second"))
        emit(JobEnded(state=JobState.SUCCEEDED, answer="42", error=None, iterations=2))
        emit.flush()
        finish_job(client.store, job.id, epoch, answered("42"))
        seen = waiting.result(30)
    assert [event.event for event in seen] == ["marked", "job_ended"]


def line(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"q{number}", "query": f"question {number}", "context": "shared"} | fields


def test_a_batch_gives_results_in_order_of_completion_and_of_submission(client: Client) -> None:
    batch = client.submit_batch([line(number) for number in range(3)], model="big")
    jobs = batch.jobs()
    assert [client.store.jobs.get(job.id).spec.custom_id for job in jobs] == ["q0", "q1", "q2"]
    assert {client.store.jobs.get(job.id).spec.model for job in jobs} == {"big"}
    assert batch.status() == BatchState.RUNNING
    results, in_order = batch.results(), batch.results_in_order()
    play(client.store, jobs[2].id, answered("two"))
    assert next(results).answer == "two"
    play(client.store, jobs[0].id, answered("zero"))
    assert next(results).answer == "zero"
    assert next(in_order).answer == "zero"
    with ThreadPoolExecutor(2) as pool:
        rest, rest_in_order = pool.submit(lambda: list(results)), pool.submit(lambda: list(in_order))
        play(client.store, jobs[1].id, Outcome(state=JobState.EXHAUSTED, partial_answer="half"))
        assert [result.partial_answer for result in rest.result(30)] == ["half"]
        assert [result.answer for result in rest_in_order.result(30)] == [None, "two"]
    assert batch.status() == BatchState.COMPLETED
    assert batch.record().counts[JobState.SUCCEEDED] == 2
    assert len(list(batch.results())) == 3


def test_a_bad_item_stops_the_whole_batch(client: Client, server: redis.Redis) -> None:
    items = [line(0), line(1, context=""), line(0), line(3, colour="red"), {"query": "q", "context": "c"}]
    with pytest.raises(InputError) as caught:
        client.submit_batch(items)
    assert caught.value.problems == (
        "item 1: context: is empty",
        "item 2: id: 'q0' is already used in item 0",
        "item 3: colour: is not known",
        "item 4: id: is missing",
    )
    for wrong in ([], "text", [["list"]]):
        with pytest.raises(InputError):
            client.submit_batch(wrong)  # type: ignore[arg-type]  # callers can do this
    with pytest.raises(InputError, match="batch id"):
        client.submit_batch([line(0)], "with space")
    assert server.keys("rlm*") == []


def test_the_same_batch_again_attaches_and_another_is_refused(client: Client, server: redis.Redis) -> None:
    batch = client.submit_batch([line(0), line(1)], "mine")
    again = client.submit_batch([line(0), line(1)], "mine")
    assert [job.id for job in again.jobs()] == [job.id for job in batch.jobs()]
    assert len(job_ids_sent(server)) == 2
    for other in ([line(0)], [line(0), line(1, query="other")], [line(0), line(1, max_depth=0)]):
        with pytest.raises(InputError, match="another content"):
            client.submit_batch(other, "mine")
    twin = client.submit_batch([line(0), line(1)])
    assert not {job.id for job in twin.jobs()} & {job.id for job in batch.jobs()}


class Breaking:
    """Five hundred jobs whose source raises an error after ``good`` of them."""

    digest = "digest"
    total = 500
    deepest = 0

    def __init__(self, good: int) -> None:
        self.good = good

    def items(self) -> Iterator[BatchItem]:
        for number in range(self.total):
            if number == self.good:
                raise ConnectionAbortedError
            yield BatchItem(f"q{number}", "?", JobOptions(), value="shared")


def test_a_submission_that_broke_off_is_completed_by_the_next(client: Client, server: redis.Redis) -> None:
    with pytest.raises(ConnectionAbortedError):
        client.submit_checked(Breaking(450), "mine")
    broken = client.batch("mine").record()
    assert (broken.sealed, sum(broken.counts.values())) == (False, 400)
    server.delete(ROOT_LIST)
    batch = client.submit_checked(Breaking(500), "mine")
    record = batch.record()
    assert (record.sealed, sum(record.counts.values()), record.total) == (True, 500, 500)
    assert job_ids_sent(server) == [job.id for job in batch.jobs()]


def test_a_cancelled_batch_is_not_filled_up_and_its_results_end(client: Client) -> None:
    with pytest.raises(ConnectionAbortedError):
        client.submit_checked(Breaking(250), "mine")
    batch = client.batch("mine")
    batch.cancel()
    assert {result.state for result in batch.results()} == {JobState.CANCELLED}
    client.submit_checked(Breaking(500), "mine")
    assert sum(batch.record().counts.values()) == 200
    assert len(list(batch.results_in_order())) == 200


def test_a_file_is_submitted_line_by_line(client: Client, server: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "shared.txt").write_text("shared", encoding="utf-8")
    lines = [{"id": f"q{number}", "query": "?", "context_file": "shared.txt"} for number in range(450)]
    path = tmp_path / "batch.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n{", encoding="utf-8")
    with pytest.raises(InputError, match="line 451: is not JSON"):
        client.submit_file(path, "mine")
    assert server.keys("rlm*") == []
    batch = client.submit_file(path, "mine", skip_invalid=True, max_iterations=2)
    assert [client.store.jobs.get(job.id).spec.custom_id for job in batch.jobs()] == [
        f"q{number}" for number in range(450)
    ]
    assert client.store.jobs.get(batch.jobs()[0].id).spec.limits.max_iterations == 2
    assert len(server.keys("rlm:blob:*")) == 2  # one context and its users


def test_a_redis_that_does_not_answer_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"none\.sock"):
        Client(Settings(home=tmp_path), redis_url=f"unix://{tmp_path}/none.sock")


def test_a_unix_socket_and_a_database_are_used_by_store_and_broker(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    with (
        running(flavours()["valkey"], tmp_path, "--unixsocket", str(socket), rules=False),
        Client(Settings(home=tmp_path), redis_url=f"unix://{socket}?db=3") as client,
        redis.Redis(unix_socket_path=str(socket), db=3, decode_responses=True) as server,
    ):
        assert job_ids_sent(server) == []
        job = client.submit("c", "q")
        assert job_ids_sent(server) == [job.id]
        assert server.exists(f"rlm:job:{job.id}")
