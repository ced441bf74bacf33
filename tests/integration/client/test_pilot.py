"""Which jobs of a batch a pilot takes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.client.batch_file import BatchList
from rlm_dist.client.client import Client
from rlm_dist.settings import Settings


@pytest.fixture
def client(redis_url: str, tmp_path: Path) -> Iterator[Client]:
    with Client(Settings(redis_url=redis_url, home=tmp_path / "home")) as client:
        yield client


def lines_of_pilot(client: Client, batch_id: str, total: int, count: int, word: str = "?") -> list[int]:
    jobs = BatchList([{"id": f"q{n}", "query": word, "context": "t"} for n in range(total)])
    _, first = client.submit_pilot(jobs, count, batch_id)
    return [job.record().spec.index for job in first]


def test_a_pilot_is_a_random_sample_with_one_job_of_each_part(client: Client) -> None:
    """A file whose lines repeat in a period gives jobs of each kind, not always the same one."""
    lines = lines_of_pilot(client, "b1", 200, 20)
    assert [line // 10 for line in lines] == list(range(20))
    assert len({line % 10 for line in lines}) > 3


def test_the_same_batch_gives_the_same_jobs_and_another_one_others(client: Client) -> None:
    lines = lines_of_pilot(client, "b1", 100, 10)
    assert lines_of_pilot(client, "b2", 100, 10) == lines
    assert lines_of_pilot(client, "b3", 100, 10, "other") != lines


def test_a_pilot_of_a_batch_that_was_submitted_gives_the_same_jobs(client: Client) -> None:
    lines = lines_of_pilot(client, "b1", 30, 5)
    client.submit_checked(BatchList([{"id": f"q{n}", "query": "?", "context": "t"} for n in range(30)]), "b1")
    assert lines_of_pilot(client, "b1", 30, 5) == lines
    assert lines_of_pilot(client, "b1", 30, 30) == list(range(30))
