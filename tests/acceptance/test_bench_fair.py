"""The fairness benchmark measures a real cluster, here with sizes too small for meaningful figures."""

import pytest

from rlm_dist.bench.fair import LATENCY_S, Fairness, measure, rows


@pytest.mark.acceptance
def test_small_jobs_are_measured_alone_and_beside_a_huge_one() -> None:
    """Each small job has a time in both runs, and the table has its rows."""
    found = measure(2, 3000)
    assert (found.jobs, found.huge_calls) == (2, 3000)
    assert [len(times) for times in (found.alone_s, found.beside_s)] == [2, 2]
    assert min(*found.alone_s, *found.beside_s) > 0
    assert [len(cells) for cells in rows(found)] == [4, 4, 4, 4]


def test_one_call_is_left_out_of_what_a_job_takes_longer() -> None:
    """Whatever the order, another call holds the slot that a call waits for."""
    found = Fairness(jobs=2, huge_calls=1, alone_s=(2.0, 4.0), beside_s=(3.0 + LATENCY_S, 10.0 + LATENCY_S))
    assert (found.slowdown(0.0), found.slowdown(1.0)) == (1.5, 2.5)
