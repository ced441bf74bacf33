"""Jobs and batches are found by what people call them."""

import pytest

from rlm_dist.store import Store, connect
from tests.support.command_line import Cli
from tests.support.store_values import spec


@pytest.fixture
def cli(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        for batch, names in {"b1": ("q1", "same"), "b2": ("q10", "same", "a/b")}.items():
            store.batches.create(batch, "digest")
            specs = [spec(f"{batch}-{n}", batch_id=batch, index=n) for n in range(len(names))]
            store.jobs.create(
                [one.model_copy(update={"custom_id": name}) for one, name in zip(specs, names, strict=True)]
            )
    return Cli(capsys)


@pytest.mark.parametrize(
    ("name", "job"),
    [("q1", "b1-0"), ("b2/same", "b2-1"), ("a/b", "b2-2"), ("b2/a/b", "b2-2"), ("b1-1", "b1-1")],
)
def test_a_job_is_found_by_its_name(cli: Cli, name: str, job: str) -> None:
    assert cli("status", name, "--json").document["id"] == job
    assert cli("cost", name, "--json").document["id"] == job
    assert cli("trace", name, "--json").document["id"] == job
    assert cli("cancel", name, "--json").document == {"id": job, "state": "cancelled"}


def test_an_ambiguous_name_lists_the_jobs(cli: Cli) -> None:
    done = cli("status", "same")
    assert done.code == 2
    assert "same: several batches have a job of this name: b2/same, b1/same" in done.err
    assert "no such job or batch: q" in cli("status", "q").err


def test_a_job_is_waited_for_and_deleted_by_its_name(cli: Cli) -> None:
    cli("cancel", "b2")
    assert cli("wait", "q10", "--json").document == {"id": "b2-0", "state": "cancelled"}
    assert cli("wait", "b2/a/b", "--json").document == {"id": "b2-2", "state": "cancelled"}
    done = cli("delete", "q10", "--yes", "--json")
    assert (done.code, "b2-0" in done.err, "b2" in done.err) == (2, True, True)  # it goes with its batch


@pytest.mark.parametrize("name", ["b1-0", "q1", "b1/q1"])
@pytest.mark.parametrize("command", ["pause", "resume", "results", "retry", "export"])
def test_a_job_where_a_batch_is_needed_is_said(cli: Cli, command: str, name: str) -> None:
    done = cli(command, name)
    assert (done.code, done.out) == (2, "")
    assert f"{name} is a job of batch b1, not a batch" in done.err


def test_a_batch_where_a_job_is_needed_is_said(cli: Cli) -> None:
    done = cli("trace", "b1")
    assert (done.code, "b1 is a batch, not a job" in done.err) == (2, True)
