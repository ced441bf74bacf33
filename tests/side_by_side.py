"""Which tests pytest-xdist may run at the same time: those of different files, but not these.

The tests of one file run one after another in one process, and so share its fixtures. So do those of a group,
which begin first: they take the longest.
"""

from fnmatch import fnmatch

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # it ships no types

GROUPS = {
    # They look at the whole machine: its shared memory, its /tmp, all that the user nobody runs.
    "attacks": (
        "tests/sandbox/test_attacks.py",
        "tests/sandbox/test_users.py",
        "tests/integration/test_sandbox_shared_*.py",
    ),
    # They take all of the machine that they can get; and chaos tells the dead from the living by time.
    "load": ("tests/chaos/*", "tests/acceptance/test_bench_*.py", "tests/integration/test_bench_*.py"),
}


class SideBySide(LoadFileScheduling):  # type: ignore[misc]  # see above
    """Gives each process a file or a group at a time."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return group_of(file) or file


def group_of(file: str) -> str | None:
    """The group that a file, as node ids name it, is one of."""
    return next(
        (name for name, patterns in GROUPS.items() if any(fnmatch(file, pattern) for pattern in patterns)),
        None,
    )


def groups_first(items: list[pytest.Item]) -> None:
    """Order tests so that the groups begin first."""
    items.sort(key=lambda item: group_of(item.nodeid.split("::")[0]) is None)
