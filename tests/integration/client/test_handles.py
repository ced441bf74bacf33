"""Handles: what they show, wait for, raise and do; and that they can be sent to another process."""

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist import Batch, Cancelled, Client, ClientClosed, Job, JobFailed, Settings
from rlm_dist.schema import BatchState, ErrorInfo, JobState, Outcome
from tests.support.played_jobs import answered, play, take
from tests.support.waiting import wait_until

FAILED = Outcome(state=JobState.FAILED, error=ErrorInfo(type="auth", message="the key is refused"))


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, home=tmp_path / "home")


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


def batch_of(client: Client, count: int) -> tuple[Batch, list[Job]]:
    items = [{"id": f"q{n}", "query": "q", "context": "c"} for n in range(count)]
    batch = client.submit_batch(items, "b")
    return batch, batch.jobs()


def test_a_handle_says_what_it_is_and_what_it_last_saw(client: Client) -> None:
    job = client.submit("c", "q")
    assert repr(job) == f"<Job {job.id}>"
    job.status()
    assert repr(job) == f"<Job {job.id}, last seen queued>"
    batch, _ = batch_of(client, 2)
    assert repr(client.batch(batch.id)) == "<Batch b>"
    assert batch.status() is BatchState.RUNNING
    assert repr(batch) == "<Batch b, last seen running>"
    assert len(batch) == 2
    client.store.batches.create("empty", "digest")
    assert client.batch("empty")
    assert len(client.batch("empty")) == 0


def test_waiting_returns_the_state(client: Client) -> None:
    job = client.submit("c", "q")
    with pytest.raises(TimeoutError, match=f"job {job.id} is still queued"):
        job.wait(0)
    play(client.store, job.id, FAILED)
    assert job.wait() is JobState.FAILED
    batch, jobs = batch_of(client, 2)
    with pytest.raises(TimeoutError, match="batch b is still running"):
        batch.wait(0)
    for each in jobs:
        play(client.store, each.id, answered("x"))
    assert batch.wait(10) is BatchState.COMPLETED


def test_a_state_without_an_answer_is_raised(client: Client) -> None:
    batch, (first, second, third) = batch_of(client, 3)
    for each in (first, batch):
        each.raise_for_state()
    play(client.store, first.id, answered("x"))
    first.raise_for_state()
    first.result().raise_for_state()
    play(client.store, second.id, FAILED)
    with pytest.raises(JobFailed, match=f"job {second.id} failed: auth: the key is refused"):
        second.raise_for_state()
    with pytest.raises(JobFailed, match="auth: 1 of 3 jobs have no answer"):
        batch.raise_for_state()
    third.cancel()
    with pytest.raises(Cancelled):
        third.result().raise_for_state()
    batch.cancel()
    client.submit_batch([{"id": "q", "query": "q", "context": "c"}], "c").cancel()
    with pytest.raises(Cancelled):
        client.batch("c").raise_for_state()


def test_a_batch_is_controlled_by_its_handle(client: Client) -> None:
    batch, (first, second) = batch_of(client, 2)
    batch.pause()
    assert batch.status() is BatchState.PAUSED
    batch.resume()
    play(client.store, first.id, FAILED)
    assert batch.retry(batch_max_usd=2) == 1
    assert batch.record().max_usd == 2
    take(client.store, second.id)
    wait_until(lambda: [job.id for job in batch.finish(0.001)] == [second.id])
    assert second.status() is JobState.FAILED


def test_a_file_or_a_folder_is_a_context(client: Client, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "docs" / f"{name}.txt").write_text(f"text {name}")
    kinds = [
        client.submit(path, "q").record().spec.context.info.kind
        for path in (tmp_path / "docs" / "a.txt", tmp_path / "docs")
    ]
    assert kinds == ["str", "list"]


def test_a_handle_goes_to_another_process_without_an_address(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    job = client.submit("c", "q")
    batch, _ = batch_of(client, 1)
    data = pickle.dumps([job, batch])
    assert b"redis" not in data
    play(client.store, job.id, answered("forty-two"))
    (tmp_path / "handles").write_bytes(data)
    code = (
        "import pickle, sys; job, batch = pickle.loads(open(sys.argv[1], 'rb').read());"
        "print(job.result(5).answer, len(batch))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "handles")],
        capture_output=True, text=True, check=True, env=settings.variables(), timeout=60,
    )  # fmt: skip
    assert done.stdout == "forty-two 1\n"


def test_a_closed_client_says_so_at_once(settings: Settings) -> None:
    client = Client(settings)
    job, (batch, _) = client.submit("c", "q"), batch_of(client, 1)
    client.close()
    for use in (job.status, job.result, batch.record, lambda: client.submit("c", "q"), client.job("x").wait):
        with pytest.raises(ClientClosed):
            use()


def test_closing_ends_a_wait_in_another_thread(settings: Settings) -> None:
    client = Client(settings)
    job = client.submit("c", "q")
    errors: list[Exception] = []
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        try:
            job.result()
        except ClientClosed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    client.close()
    thread.join(30)
    assert len(errors) == 1
