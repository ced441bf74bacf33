"""Which tests pytest-xdist may run at the same time: those of different files, with exceptions.

The tests of one file run one after another in one process and share its fixtures. The tests that look at the
whole machine run as if they were in one file. The longest tests start first.
"""

from fnmatch import fnmatch

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]  # it ships no types
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # it ships no types

# They look at shared memory, /tmp and all processes of the user nobody, or measure memory of processes.
OF_THE_MACHINE = (
    "tests/sandbox/test_attacks.py",
    "tests/sandbox/test_users.py",
    "tests/integration/sandbox/test_shared_*.py",
)
LONGEST = (
    *OF_THE_MACHINE,
    "tests/acceptance/test_bench_soak.py",
    "tests/acceptance/test_bench_speed.py",
    "tests/acceptance/test_main_job.py",
    "tests/chaos/*",
)


class SideBySide(LoadFileScheduling):  # type: ignore[misc]  # see above
    """Gives each process one file at a time, in the order in which tests were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "of the machine" if _place(file, OF_THE_MACHINE) < len(OF_THE_MACHINE) else file


def longest_first(items: list[pytest.Item]) -> None:
    """Put the tests in the order in which they should start."""
    items.sort(key=lambda item: _place(item.nodeid.split("::")[0], LONGEST))


def _place(file: str, patterns: tuple[str, ...]) -> int:
    """The index of the first pattern that a file, named as in node ids, matches; their number if none."""
    return next((place for place, pattern in enumerate(patterns) if fnmatch(file, pattern)), len(patterns))
