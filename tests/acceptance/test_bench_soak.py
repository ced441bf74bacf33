"""A small soak: every job succeeds over an endpoint with faults; the ledger equals the endpoint's count."""

import pytest

from rlm_dist.bench.soak import CALLS, measure

pytestmark = pytest.mark.acceptance

JOBS = 200


@pytest.mark.timeout(300)
def test_two_hundred_jobs_come_through() -> None:
    soak = measure(JOBS)
    assert soak.succeeded == JOBS
    assert soak.failed_requests > 0
    assert soak.ledger_agrees
    assert soak.endpoint_calls == JOBS * (3 + CALLS)
    assert soak.paid_twice == 0
    assert {memory.worker for memory in soak.memory} == {"root1", "sub1"}
