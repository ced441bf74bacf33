"""Child jobs in the store: one tree with one ledger, one end, and one time to expire."""

import pytest
import redis

from rlm_dist.errors import Cancelled, Superseded
from rlm_dist.schema import JobSpec, JobState, Outcome
from rlm_dist.store import CallRefused, Store
from tests.support.store_values import LEASE_MS, opens, running_job, settlement, spec

QUEUED, RUNNING, CANCELLED = JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED
ANSWERED = Outcome(state=JobState.SUCCEEDED, answer="a")


def child(job_id: str, parent_id: str = "j", depth: int = 1, sha: str = "c0ffee") -> JobSpec:
    """The spec of a child."""
    return spec(job_id, sha=sha).model_copy(update={"parent_id": parent_id, "depth": depth})


def running_child(store: Store, job_id: str, parent_id: str, epoch: int, depth: int = 1) -> int:
    """Create and start a child; returns its epoch."""
    assert store.children.open(parent_id, epoch, [child(job_id, parent_id, depth)]) == [QUEUED]
    started = store.jobs.start(job_id, f"root-{job_id}", LEASE_MS)
    assert started
    return started


def test_a_child_is_created_once_and_its_outcome_is_read_when_it_has_ended(store: Store) -> None:
    epoch = running_job(store)
    specs = [child("c1"), child("c2")]
    assert store.children.open("j", epoch, specs) == [QUEUED, QUEUED]
    assert store.children.open("j", epoch, specs) == [QUEUED, QUEUED]
    started = store.jobs.start("c1", "root-2", LEASE_MS)
    assert started
    assert store.children.open("j", epoch, specs) == [RUNNING, QUEUED]
    assert store.children.outcomes(["c1", "c2"]) == [None, None]
    assert store.jobs.finish("c1", started, ANSWERED)
    assert store.children.open("j", epoch, specs) == [JobState.SUCCEEDED, QUEUED]
    assert store.children.outcomes(["c2", "c1", "nobody"]) == [None, ANSWERED, None]
    assert store.jobs.get("c1").spec == specs[0]
    assert store.children.outcomes([]) == store.children.open("j", epoch, []) == []
