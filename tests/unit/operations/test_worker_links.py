"""The worker that a process belongs to, as Flower knows workers."""

from typing import NamedTuple

import pytest

from rlm_dist.operations.flower.handlers import worker_name


class Seen(NamedTuple):
    pid: int | None


SEVERAL = {"root@h": Seen(1), "root-depth1@h": Seen(2), "sub@h": Seen(3), "root@other": Seen(1)}


@pytest.mark.parametrize(
    ("process", "name"),
    [
        ("root@h:1", "root@h"),
        ("root@h:2", "root-depth1@h"),
        ("sub@h:3", "sub@h"),
        ("sub@h:99", "sub@h"),  # a worker that Flower has heard little of
        ("root@other:99", "root@other"),  # a process that runs one job alone
        ("root@h:99", None),
        ("root@nowhere:1", None),
        ("", None),
    ],
)
def test_a_process_has_the_name_of_its_worker(process: str, name: str | None) -> None:
    assert worker_name(process, SEVERAL) == name
