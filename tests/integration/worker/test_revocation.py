"""Celery's commands that revoke tasks cancel the jobs of root tasks, and nothing else."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state as worker_state
from celery.worker.control import Panel

from rlm_dist.broker.app import make_app
from rlm_dist.schema import JobState
from rlm_dist.settings import Settings
from rlm_dist.store import Store, connect
from rlm_dist.worker.revocation import cancel_revoked_jobs
from tests.support.store_values import spec


class Commands:
    """The commands as a worker's mailbox calls them, and the store of its jobs."""

    def __init__(self, app: Any, store: Store) -> None:
        self.store = store
        self._state = SimpleNamespace(app=app, consumer=SimpleNamespace(pool=None))

    def __call__(self, name: str, **arguments: Any) -> Any:
        """Run a command."""
        return Panel.data[name](self._state, **arguments)

    def cancelled(self) -> set[str]:
        """The jobs that are cancelled."""
        return {job.spec.id for job in self.store.jobs.newest(100) if job.state is JobState.CANCELLED}


@pytest.fixture
def commands(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """The commands over four waiting jobs, two of them in a batch."""
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    monkeypatch.setattr(Panel, "meta", dict(Panel.meta))
    monkeypatch.setattr(worker_state, "revoked_stamps", {})
    settings = Settings(redis_url=redis_url)
    cancel_revoked_jobs(settings)
    with make_app(settings) as app, connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        store.batches.create("b", "digest", 2)
        store.jobs.create(
            [spec("j1"), spec("j2"), spec("j3", batch_id="b"), spec("j4", batch_id="b", index=1)]
        )
        yield Commands(app, store)
    worker_state.revoked.clear()


def test_a_root_task_is_named_by_its_id_first_or_later(commands: Commands) -> None:
    assert "ok" in commands("revoke", task_id="j1")
    commands("terminate", signal="SIGKILL", task_id=["j2.r1764195126123"])
    assert commands.cancelled() == {"j1", "j2"}
    assert {"j1", "j2.r1764195126123"} <= set(worker_state.revoked)


def test_tasks_that_are_no_root_tasks_cancel_no_job(commands: Commands) -> None:
    commands("revoke", task_id=["j1.1", "j2.2-7", "4b3a9e0c-1d2f-4a5b-8c6d-7e8f9a0b1c2d", ""], terminate=True)
    assert commands.cancelled() == set()
    assert "j1.1" in worker_state.revoked


@pytest.mark.parametrize("stamp", ["j3", ["j3", "unknown"]])
def test_a_stamp_of_a_job_cancels_it(commands: Commands, stamp: object) -> None:
    commands("revoke_by_stamped_headers", headers={"job": stamp}, terminate=True)
    assert commands.cancelled() == {"j3"}


def test_a_stamp_of_a_batch_cancels_its_jobs_and_is_not_remembered(commands: Commands) -> None:
    """Celery would drop whatever has the stamp for as long as the worker lives, also after a retry."""
    commands("revoke_by_stamped_headers", headers=["batch=b"])  # as Celery's command line sends it
    assert commands.cancelled() == {"j3", "j4"}
    assert worker_state.revoked_stamps == {}


def test_other_stamps_are_celerys(commands: Commands) -> None:
    commands("revoke_by_stamped_headers", headers={"tenant": "x"})
    assert commands.cancelled() == set()
    assert {name: list(values) for name, values in worker_state.revoked_stamps.items()} == {"tenant": ["x"]}
