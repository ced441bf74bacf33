"""The benchmark of trees measures a real cluster, here with a tree too small for meaningful figures."""

import pytest

from rlm_dist.bench.tree import measure, rows


@pytest.mark.acceptance
def test_a_small_tree_is_measured() -> None:
    """Each job paid one root call, and the table has its rows."""
    found = measure(2)
    assert (found.jobs, found.counted) == (7, 7)
    assert found.seconds >= found.bound_s
    assert [len(cells) for cells in rows(found)] == [5, 5]
