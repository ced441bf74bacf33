"""A run of ``bench quality`` whose jobs wait for workers that this command does not start."""

from pathlib import Path

import pytest

from rlm_dist.bench.quality_runs.jobs import batch_id_of
from rlm_dist.bench.quality_runs.running import queue_of, run_methods
from rlm_dist.client.client import Client
from rlm_dist.errors import InputError
from rlm_dist.settings import Settings
from tests.support.store_values import spec
from tests.unit.bench.quality_runs.run_values import item, record, run_folder


@pytest.mark.parametrize(
    ("theirs", "own", "problem"),
    [
        ("", "rlm.own.", "wait for the workers of rlm-dist up: start it"),
        ("rlm.theirs.", "", "workers that this command starts itself: end rlm-dist up"),
        ("rlm.theirs.", "rlm.own.", "begun with another endpoint, key or setting"),
    ],
)
def test_a_run_whose_jobs_wait_for_other_workers_is_refused_at_once(
    redis_url: str, tmp_path: Path, theirs: str, own: str, problem: str
) -> None:
    run = record("rlm")
    folder = run_folder(tmp_path / "run", run, [item("a")], [])
    with Client(Settings(redis_url=redis_url, blob_url="redis", broker_prefix=own)) as client:
        batch_id = batch_id_of(run.id, "rlm")
        client.store.batches.create(batch_id, "digest", 1)
        waiting = spec("j1", batch_id=batch_id).model_copy(update={"broker_prefix": theirs})
        client.store.jobs.create([waiting])
        with pytest.raises(InputError, match=problem):
            run_methods(client, folder, run, lambda progress: None)


def test_the_queue_of_a_run_is_that_of_its_id_alone() -> None:
    one, two = record("rlm"), record("rlm")
    assert queue_of(one) == queue_of(one.model_copy(update={"methods": ("base",)}))
    assert queue_of(one) != queue_of(two)
