"""The tools of a job over a real store: what is called, what is served again, and how calls end."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.errors import Cancelled, LimitExceeded, Superseded, ToolNotAllowed
from rlm_dist.root_worker import job_tools
from rlm_dist.root_worker.job_tools import JobTools, named_tools
from rlm_dist.sandbox.inside.frames import MAX_TOOL_BYTES
from rlm_dist.schema.events import ToolCalled
from rlm_dist.schema.leases import LEASE_MS
from rlm_dist.store import Store, keys
from rlm_dist.worker.mcp_servers import McpServers
from tests.support import host_tools
from tests.support.host_tools import FOLDER, TOOLS
from tests.support.store_values import running_job, start_job
from tests.support.waiting import wait_until

Made = Callable[..., JobTools]
NO_SERVERS = McpServers({}, 1)


def asked(*args: Any, **kwargs: Any) -> str:
    return json.dumps({"args": args, "kwargs": kwargs})


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def tools(store: Store, redis_client: redis.Redis, tmp_path: Path, events: list[Any]) -> Made:
    """Makes the tools of a run of the job ``j``; each is at the epoch that is passed."""
    epoch = running_job(store)
    blobs = open_blobs("redis", home=tmp_path, client=redis_client, retention_s=1000)

    def make(timeout_s: float = 30.0, epoch: int = epoch) -> JobTools:
        return JobTools(
            TOOLS, job_id="j", epoch=epoch, calls=store.tool_calls,
            payloads=Payloads(store=store, blobs=blobs), timeout_s=timeout_s, emit=events.append,
        )  # fmt: skip

    return make


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return lambda name: len((tmp_path / name).read_text().splitlines())


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Tools that wait go on at the end of the test."""
    host_tools.hold.clear()
    yield host_tools.hold
    host_tools.hold.set()


def test_a_later_run_gets_what_was_stored_and_calls_nothing(
    tools: Made, events: list[ToolCalled], counted: Callable[[str], int], store: Store
) -> None:
    first, again = tools(), tools()
    assert [first.call("count", asked("a")).result for _ in range(2)] == ["1", "2"]
    assert [again.call("count", asked("a")).result for _ in range(3)] == ["1", "2", "3"]
    again.rewind()
    assert again.call("count", asked("a")).result == "1"
    assert counted("a") == 3
    assert store.jobs.costs("j").tool_calls == 3
    assert [event.from_store for event in events] == [False, False, True, True, False, True]
    assert events[0].call_id == events[2].call_id != events[1].call_id
    assert (events[0].name, events[0].ok, events[0].arguments) == ("count", True, asked("a"))


def test_a_failure_is_stored_too(tools: Made, events: list[ToolCalled]) -> None:
    reply = tools().call("fails", asked("why"))
    assert (reply.result, reply.error, reply.message) == (None, "ToolError", "KeyError: 'why'")
    assert tools().call("fails", asked("why")) == reply
    assert [(event.ok, event.from_store) for event in events] == [(False, False), (False, True)]


def test_wrong_arguments_and_names_are_neither_calls_nor_counted(
    tools: Made, events: list[ToolCalled], store: Store
) -> None:
    job = tools()
    assert job.call("lookup", asked()).error == "TypeError"
    assert job.call("lookup", asked(5)).error == "ValueError"
    assert job.call("lookup", "[" * 10_000).error == "ValueError"
    assert "not a tool" in job.call("open", asked("/etc/passwd")).message
    assert events == []
    assert store.jobs.costs("j").tool_calls == 0


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("odd", asked(), "it returned what is no JSON value"),
        ("huge", asked(MAX_TOOL_BYTES), "its result has 1,048,578 bytes"),
    ],
)
def test_a_result_that_cannot_be_handed_on_is_an_error(
    tools: Made, name: str, arguments: str, said: str
) -> None:
    assert said in tools().call(name, arguments).message


def test_a_long_result_goes_to_the_blob_store(tools: Made, store: Store) -> None:
    assert tools().call("huge", asked(500_000)).result == json.dumps("x" * 500_000)
    (packed,) = store.connection.client.hvals(keys.job("j", "tools"))
    assert packed.startswith('{"blob": ')
    assert tools().call("huge", asked(500_000)).result == json.dumps("x" * 500_000)


def test_a_tool_that_takes_too_long_fails_and_stays_failed(tools: Made, held: threading.Event) -> None:
    assert tools(timeout_s=0.05).call("waits", asked()).message == "no result within 0.05 s"
    held.set()
    assert tools().call("waits", asked()).message == "no result within 0.05 s"


def test_an_abort_ends_the_waiting_at_once_and_stores_nothing(
    tools: Made, held: threading.Event, store: Store
) -> None:
    job, errors = tools(), []

    def call() -> None:
        try:
            job.call("waits", asked())
        except Cancelled as error:
            errors.append(error)

    calling = threading.Thread(target=call)
    calling.start()
    wait_until(lambda: any(thread.name == "tool-waits" for thread in threading.enumerate()))
    job.abort(Cancelled("j"))
    calling.join()
    assert len(errors) == 1
    with pytest.raises(Cancelled):
        job.call("lookup", asked("a"))
    assert store.jobs.costs("j").tool_calls == 0


def test_the_threads_of_tools_are_bounded(
    tools: Made, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_tools, "_all_threads", threading.Semaphore(1))
    assert "no result" in tools(timeout_s=0.05).call("waits", asked()).message
    assert "under way in this worker" in tools().call("lookup", asked("a")).message


def test_a_job_whose_tools_hang_leaves_threads_to_others(
    tools: Made, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_tools, "MAX_THREADS", 1)
    hanging = tools(timeout_s=0.05)
    assert "no result" in hanging.call("waits", asked()).message
    assert "of this job are still under way" in hanging.call("lookup", asked("a")).message
    assert tools().call("lookup", asked("b")).result is not None


def test_the_calls_of_a_job_are_bounded(tools: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_tools, "MAX_TOOL_CALLS", 2)
    job = tools()
    assert [job.call("lookup", asked("a")).result is not None for _ in range(3)] == [True, True, False]


def test_a_worker_that_lost_the_job_ends_its_cell(tools: Made, store: Store) -> None:
    job = tools()
    store.jobs.park("j", 1)
    assert start_job(store, "j", "root-2", LEASE_MS) == 2
    with pytest.raises(Superseded):
        job.call("lookup", asked("a"))


def test_a_job_that_is_full_ends_at_its_limit(tools: Made, store: Store) -> None:
    store.connection.client.hset(keys.job("j"), "max_bytes", 100)
    with pytest.raises(LimitExceeded, match="max_job_bytes"):
        tools().call("huge", asked(1000))


def test_logs_have_no_argument_and_no_message(tools: Made) -> None:
    with structlog.testing.capture_logs() as logs:
        tools().call("fails", asked("a secret"))
    assert [line["event"] for line in logs] == ["tool_failed"]
    assert "secret" not in str(logs)


def test_a_name_that_is_not_offered_is_refused_with_those_that_are() -> None:
    assert list(named_tools(["lookup", "lookup"], TOOLS, NO_SERVERS)) == ["lookup"]
    for name in ("system", "numbers:add", "numbers:*"):
        with pytest.raises(ToolNotAllowed, match="it offers: lookup, slowly"):
            named_tools([name], TOOLS, NO_SERVERS)


def test_the_description_has_signature_and_first_paragraph(tools: Made) -> None:
    line = tools().docs.splitlines()[1]
    assert line == "- `lookup(key: str, limit: int = 3) -> list[str]`: Look a key up in the catalogue."
