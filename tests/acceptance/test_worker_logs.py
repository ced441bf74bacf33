"""The logs of real workers: one form for all lines, what an operator asks of a job once each, and no text."""

import json
import re
from collections.abc import Callable, Sequence

import pytest
from pydantic import JsonValue

from rlm_dist.client.handles import Batch
from rlm_dist.schema import BatchState, JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import WAIT_S, Bench, MakeBench
from tests.support.waiting import wait_until
from tests.support.worker_processes import WorkerProcess

pytestmark = pytest.mark.acceptance

KEY = "sk-hush-hush-hush"
NO_MONEY: dict[str, JsonValue] = {"message": "You have spent it all", "code": "insufficient_quota"}
TEXTS = (KEY, "platypus", "Label the", "spent it all", "human being")
CONTEXT = "Who is the platypus?\nWhere?\nWhen?"
ITEMS = [{"id": "q", "query": "Label the first 3 lines.", "context": CONTEXT}]
# What Celery's handler of a signal writes to stdout; there is no setting for it.
_NOT_LOGGED = ("", "worker: Warm shutdown (MainProcess)")
_PAIR = re.compile(r'([\w.]+)=("(?:[^"\\]|\\.)*"|[^\s"]*)(?: |$)')

Line = dict[str, object]


def logfmt(line: str) -> Line:
    """A line of logfmt; all of it must be pairs."""
    assert _PAIR.sub("", line) == "", line
    return {name: value.strip('"') for name, value in _PAIR.findall(line)}


READERS: dict[str, Callable[[str], Line]] = {"console": logfmt, "json": json.loads}


def lines_of(workers: Sequence[WorkerProcess], log_format: str) -> list[Line]:
    """All lines of these workers, each of which must have the form."""
    texts = [text for worker in workers for text in worker.text().splitlines() if text not in _NOT_LOGGED]
    found = [READERS[log_format](text) for text in texts]
    for line in found:
        assert {"timestamp", "level", "event", "role", "pid"} <= set(line), line
    for text in texts:
        assert not [secret for secret in TEXTS if secret in text], text
    return found


def events(lines: Sequence[Line], **wanted: object) -> list[str]:
    """The events of the lines that have these values, without those of libraries."""
    mine = [line for line in lines if "logger" not in line]
    return [
        str(line["event"])
        for line in mine
        if all(str(line.get(name)) == str(value) for name, value in wanted.items())
    ]


def start(bench: Bench, role: Role, log_format: str, concurrency: int) -> WorkerProcess:
    return bench.start(role, concurrency=concurrency, RLM_LOG_FORMAT=log_format, RLM_API_KEY=KEY)


def paused_and_away(bench: Bench, endpoint: SimulatedEndpoint) -> Batch:
    """A batch that is paused for want of money, then meets an outage and a ceiling, and ends well."""
    store = bench.client.store
    endpoint.faults = (Fault(kind="status", role=Role.SUB, status=429, error=NO_MONEY),)
    paused = bench.client.submit_batch(ITEMS, "paused")
    wait_until(lambda: store.batches.get(paused.id).state is BatchState.PAUSED)
    wait_until(lambda: store.batches.get(paused.id).counts[JobState.QUEUED] == 1)
    endpoint.faults = (Fault(kind="status", status=503),)
    (scope,) = store.limits.scopes()
    store.batches.resume(paused.id)
    wait_until(store.limits.away_urls)
    endpoint.faults = ()
    store.limits.set_ceilings(scope.url, scope.model, {"in_flight": 7})
    assert [result.state for result in paused.results()] == [JobState.SUCCEEDED]
    return paused


@pytest.mark.parametrize("log_format", READERS)
def test_the_logs_tell_what_happened_to_each_job_once(make_bench: MakeBench, log_format: str) -> None:
    with SimulatedEndpoint(key=KEY) as endpoint:
        bench = make_bench(endpoint)
        workers = [start(bench, Role.ROOT, log_format, 2), start(bench, Role.SUB, log_format, 8)]
        bench.wait_ready()
        store = bench.client.store

        good = bench.client.submit_batch(ITEMS, "good")
        (result,) = good.results()
        assert result.state is JobState.SUCCEEDED

        paused = paused_and_away(bench, endpoint)

        spent = bench.client.submit(CONTEXT, "Label the first 3 lines.", max_iterations=1)
        assert spent.result(WAIT_S).state is JobState.EXHAUSTED
        endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
        endpoint.hold()
        cancelled, stalled = (bench.client.submit_batch(ITEMS, name) for name in ("cancelled", "stalled"))
        wait_until(lambda: endpoint.served.in_flight == 6)
        store.batches.cancel(cancelled.id)
        store.jobs.end_stalled(stalled.id, 0.0)
        wait_until(lambda: "".join(worker.text() for worker in workers).count("job_ended") == 5)
        for worker in workers:
            worker.terminate()
        lines = lines_of(workers, log_format)

    (good_id,), (paused_id,) = ([job.id for job in batch.jobs()] for batch in (good, paused))
    assert events(lines, job=good_id) == ["job_started", "job_ended"]
    assert events(lines, job=spent.id) == ["job_started", "job_ended"]
    of_paused = events(lines, job=paused_id)
    for event in ("job_started", "job_parked", "job_resumed", "job_ended", "batch_paused"):
        assert of_paused.count(event) == 1, of_paused
    everything = events(lines)
    for event in ("endpoint_away", "endpoint_back", "ceilings_changed", "batch_paused"):
        assert everything.count(event) == 1, everything
    (end,) = (line for line in lines if line.get("job") == good_id and line["event"] == "job_ended")
    assert (end["state"], end["batch"], end["role"]) == ("succeeded", good.id, "root")
    assert (str(end["turns"]), str(end["sub_calls"])) == (str(result.iterations), "3")
    assert {"why", "usd", "seconds", "tokens", "root_calls", "failed_calls", "epoch"} <= set(end)
    assert str(end["why"]) in ("", "None")
    (end,) = (line for line in lines if line.get("job") == spent.id and line["event"] == "job_ended")
    assert (end["state"], str(end["why"])) == ("exhausted", "max_iterations")
    for batch, state in ((cancelled, "cancelled"), (stalled, "failed")):
        (job,) = batch.jobs()
        ends = [line for line in lines if line.get("job") == job.id and line["event"] == "job_ended"]
        assert [(line["state"], line["batch"]) for line in ends] == [(state, batch.id)]
    # No line is about a task or a sub-call.
    assert not [
        line for line in lines if "rlm.sub[" in str(line["event"]) or "rlm.root[" in str(line["event"])
    ]


def test_a_job_whose_worker_died_is_told_as_recovered(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)], key=KEY) as endpoint:
        bench = make_bench(endpoint)
        dying = start(bench, Role.ROOT, "json", 1)
        start(bench, Role.SUB, "json", 4)
        bench.wait_ready()
        job = bench.client.submit("Who is the platypus?\nWhere?", "Label the first 2 lines.")
        wait_until(lambda: endpoint.served.by_role.get("sub") == 2)
        dying.kill()
        heir = start(bench, Role.ROOT, "json", 1)
        wait_until(lambda: bench.client.store.jobs.get(job.id).epoch == 2)
        endpoint.release()
        assert job.result(WAIT_S).state is JobState.SUCCEEDED
        wait_until(lambda: "job_ended" in heir.text())
        assert events(lines_of([dying], "json"), job=job.id) == ["job_started"]
        of_job = events(lines_of([heir], "json"), job=job.id)
        assert [event for event in of_job if event != "job_lapsed"] == ["job_recovered", "job_ended"]


def test_at_debug_there_are_lines_of_tasks_and_still_no_text(make_bench: MakeBench) -> None:
    faults = [Fault(kind="status", role=Role.SUB, status=500, on=(0,), error={"message": f"no: {TEXTS[1]}"})]
    with SimulatedEndpoint(key=KEY, faults=faults) as endpoint:
        bench = make_bench(endpoint)
        debug = {"RLM_LOG_FORMAT": "json", "RLM_LOG_LEVEL": "debug", "RLM_API_KEY": KEY}
        workers = [bench.start(role, concurrency=2, options=("-l", "debug"), **debug) for role in Role]
        bench.wait_ready()
        job = bench.client.submit("Who is the platypus?\nWhere?", "Label the first 2 lines.")
        assert job.result(WAIT_S).state is JobState.SUCCEEDED
        wait_until(lambda: "job_ended" in workers[0].text())
        lines = lines_of(workers, "json")
    assert events(lines, job=job.id).count("model_call_retried") == 1
    for task in ("rlm.root[", "rlm.sub["):
        assert [line for line in lines if task in str(line["event"]) and "received" in str(line["event"])]
