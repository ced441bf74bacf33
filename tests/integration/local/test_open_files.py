"""The limit of open files is raised where the system allows it, and what it cannot hold is refused."""

import json
import subprocess
import sys

import pytest

from tests.support.environment import PROJECT

_ASK = """\
import json, resource, sys
from rlm_dist.errors import SettingsError
from rlm_dist.local.open_files import allow_open_files
soft, hard, calls = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    said = bool(allow_open_files(calls))
except SettingsError as error:
    said = str(error)
print(json.dumps([said, *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("soft", "calls", "expected"),
    [(1024, 256, [False, 1024, 4096]), (1024, 2048, [True, 4096, 4096]), (1024, 1000, [True, 2512, 4096])],
)
def test_it_is_raised_if_the_calls_need_it(soft: int, calls: int, expected: list[object]) -> None:
    assert asked(soft, 4096, calls) == expected


def test_more_calls_than_the_system_allows_are_refused_with_what_to_do() -> None:
    words, *limits = asked(1024, 4096, 8192)
    assert limits == [1024, 4096]
    for said in ("RLM_SUB_CONCURRENCY or -c", "8,192 calls", "may open 4,096", "LimitNOFILE=", "3,840 slots"):
        assert said in str(words)


def asked(soft: int, hard: int, calls: int) -> list[object]:
    """The error that a process with these limits gets, and its limits afterwards."""
    command = [sys.executable, "-c", _ASK, *map(str, (soft, hard, calls))]
    done = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE)
    found: list[object] = json.loads(done.stdout)
    return found
