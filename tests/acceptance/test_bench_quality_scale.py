"""The oracle over a small window, on a real cluster whose workers are killed meanwhile."""

import pytest

from rlm_dist.bench.quality_oracle.scale import measure, rows
from tests.support.labelled_sets import trec_like


@pytest.mark.acceptance
@pytest.mark.long
def test_the_answer_is_exact_although_a_sub_worker_and_the_root_worker_are_killed() -> None:
    """The ledger has each call once; no more is paid twice than the killed sub worker had in flight."""
    run = measure(trec_like(), tokens=65_536, slots=2)
    assert (run.score, run.killed, run.recoveries) == (1.0, ("sub1", "root1"), 1)
    assert run.costs.sub_llm_calls == -(-run.lines // 100)
    assert run.costs.root_llm_calls == 3
    assert 0 <= run.paid_twice <= run.costs.duplicate_paid_calls < run.costs.sub_llm_calls
    assert run.costs.total_cost
    assert run.wall_s >= run.bound_s
    assert rows(run)[0][0] == "simulated models"
