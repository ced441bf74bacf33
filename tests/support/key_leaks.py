"""Keys that would stay in Redis for ever."""

from typing import Any

from rlm_dist.schema import JobState, Outcome
from rlm_dist.store import Store
from tests.support.store_values import finish_job

# Lists of names, from which expired ones are removed, and what an operator has set; see ``store.keys``.
_LASTING = {"rlm:jobs", "rlm:batches", "rlm:ceilings"}


def end_all_jobs(store: Store) -> None:
    """End the jobs that a test has left behind, whose workers are gone."""
    for job in store.jobs.newest(limit=10_000):
        if not job.state.final and store.jobs.cancel(job.spec.id) is JobState.RUNNING:
            finish_job(store, job.spec.id, job.epoch, Outcome(state=JobState.FAILED))


def leaked_keys(client: Any) -> list[str]:
    """The keys under ``rlm:`` that have no TTL; to be called once all jobs have ended."""
    names = set(client.scan_iter("rlm:*")) - _LASTING
    return sorted(name for name in names if client.ttl(name) == -1)
