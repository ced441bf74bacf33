"""The rows of ``rlm-dist bench speed`` come in groups with plain names."""

import re

import pytest

from rlm_dist.bench.rows import Group, cells, ratio
from rlm_dist.cli.app import main
from tests.support.environment import PROJECT

PACKAGE = PROJECT / "rlm_dist"
GROUPS = (
    "fan-out", "one-call", "workers", "jobs", "memory", "density", "contexts", "peers", "growth", "metrics",
    "width",
)  # fmt: skip


def test_the_groups_are_these() -> None:
    assert tuple(Group) == GROUPS


def test_the_help_names_them_and_another_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "speed", "--help"])
    assert ended.value.code == 0
    said = re.sub(r"\s+", "", capsys.readouterr().out)
    assert "|".join(GROUPS) in said
    with pytest.raises(SystemExit) as ended:
        main(["bench", "speed", "--group", "7"])
    assert ended.value.code == 2


def test_a_row_shows_its_group() -> None:
    head, row = cells([ratio(Group.PEERS, "sub-calls", [(2, 1)], "> 1")])
    assert (head[0], row[0]) == ("group", "peers")


def test_the_tracker_is_not_mentioned() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"\bissues? \d|\bbars? \d|#\d+\b", path.read_text(), re.IGNORECASE), path
