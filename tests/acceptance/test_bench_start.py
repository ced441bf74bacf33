"""The benchmark of starts runs the real commands, here once each."""

import pytest

from rlm_dist.bench.start import UNIT, measure, rows


@pytest.mark.acceptance
def test_each_command_is_measured_beside_the_unit() -> None:
    found = measure(1)
    assert [row.what for row in found] == [
        UNIT,
        "rlm-dist --help",
        "rlm-dist status, Redis runs",
        "rlm-dist run, in a new RLM_HOME",
        "the same again",
    ]
    assert found[0].units == 1
    assert all(row.cpu_s > 0 and row.wall_s > 0 for row in found)
    assert all(len(cells) == 4 for cells in rows(found))
