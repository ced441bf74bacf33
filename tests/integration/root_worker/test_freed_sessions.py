"""A later query of a session leaves nothing in memory after its end."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rlm_dist.broker.app import make_app
from rlm_dist.client.client import Client
from rlm_dist.root_worker.job import RootJob
from rlm_dist.root_worker.repl import JobRepl
from rlm_dist.root_worker.session_rebuild import EarlierCalls, SessionRebuild
from rlm_dist.root_worker.worker import RootWorker
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.worker.metrics import Unmeasured
from tests.support.garbage import freed_without_collector


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, home=tmp_path, model="m", api_url="http://127.0.0.1:9/v1")


@pytest.fixture
def worker(settings: Settings) -> Iterator[RootWorker]:
    with (
        make_app(settings, Role.ROOT) as app,
        closing(RootWorker(app, settings, jobs=1, stopping=lambda: False, metrics=Unmeasured())) as made,
    ):
        yield made


def test_a_rebuilt_session_is_free_when_its_query_has_ended(settings: Settings, worker: RootWorker) -> None:
    with Client(settings) as client, client.session("a text") as session:
        first = session.submit("first?", program="kept = len(context)\nFINAL(kept)")
        worker.run(first.id, "task")
        with freed_without_collector(RootJob, JobRepl, SessionRebuild, EarlierCalls):
            later = session.submit("later?", program="FINAL(kept + 1)")
            worker.run(later.id, "task")
        assert later.result().answer == "7"
