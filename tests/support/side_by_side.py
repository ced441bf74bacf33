"""Which tests pytest-xdist may run at the same time: those of different files, but not these.

The tests of one file run one after another in one process, and so share its fixtures; those of the whole
machine do as if they were of one file. What takes longest begins first.
"""

from fnmatch import fnmatch

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]  # it ships no types
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # it ships no types

# They look at its shared memory, its /tmp and all that the user nobody runs, or count what processes hold.
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
    """Gives each process a file at a time, in the order in which tests were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "of the machine" if _place(file, OF_THE_MACHINE) < len(OF_THE_MACHINE) else file


def longest_first(items: list[pytest.Item]) -> None:
    """Put the tests in the order in which they are to begin."""
    items.sort(key=lambda item: _place(item.nodeid.split("::")[0], LONGEST))


def _place(file: str, patterns: tuple[str, ...]) -> int:
    """Which pattern a file, named as in node ids, matches; their number if none does."""
    return next((place for place, pattern in enumerate(patterns) if fnmatch(file, pattern)), len(patterns))
