"""The leases of a process's jobs are renewed together, and no job delays the others."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from rlm_dist.errors import Cancelled, LimitExceeded, Parked, RLMError, Superseded, Unreachable
from rlm_dist.root_worker.job_lease import JobLease
from rlm_dist.root_worker.lease_keeper import LeaseKeeper
from rlm_dist.schema import Costs, JobRecord, JobSpec, JobState
from rlm_dist.store.jobs import JobStore, Renewal, RenewalReply
from tests.support.garbage import freed_without_collector
from tests.support.store_values import spec
from tests.support.waiting import wait_until


class PlayedJobs:
    """A store whose replies the test sets by job; it notes each trip."""

    def __init__(self) -> None:
        self.trips: list[list[Renewal]] = []
        self.replies: dict[str, RenewalReply | Exception] = {}

    def renew_all(self, renewals: Sequence[Renewal], lease_ms: int) -> list[RenewalReply]:
        """Reply to each; the first error is raised in place of all replies."""
        self.trips.append(list(renewals))
        replies = [self.replies.get(renewal.job_id, "ok") for renewal in renewals]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return cast("list[RenewalReply]", replies)


def record(job: JobSpec) -> JobRecord:
    """A running job at epoch 1."""
    return JobRecord(spec=job, state=JobState.RUNNING, epoch=1, queued_ms=0, costs=Costs())


class Kept:
    """A keeper over played jobs, whose beats the test makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rlm_dist.root_worker.lease_keeper.RENEW_S", 1000)
        self.jobs = PlayedJobs()
        self.stopping = self.waits = False
        self.keeper = LeaseKeeper(
            cast("JobStore", self.jobs), stopping=lambda: self.stopping, waits=lambda: self.waits
        )

    def lease(self, job_id: str, **limits: Any) -> JobLease:
        """A lease of a job at epoch 1 that has run for an hour."""
        return JobLease(
            record(spec(job_id, **limits)), self.keeper, ran_ms=3_600_000, store_trace=lambda: None
        )


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    kept = Kept(monkeypatch)
    yield kept
    kept.keeper.close()


def reasons(lease: JobLease) -> list[RLMError]:
    """The reasons for which a lease stops its run, in order."""
    found: list[RLMError] = []
    lease.on_lost(found.append)
    return found


def test_a_run_does_not_stay_in_memory_after_its_lease(kept: Kept) -> None:
    class Run:
        def __init__(self, lease: JobLease) -> None:
            self.lease = lease
            lease.on_lost(self.stop)

        def stop(self, error: RLMError) -> None:
            raise error

    with freed_without_collector(Run, JobLease), kept.lease("a") as lease:
        Run(lease)
        del lease


def test_all_leases_are_renewed_in_one_trip_while_they_are_open(kept: Kept) -> None:
    with kept.lease("a"), kept.lease("b"):
        kept.keeper.beat()
    kept.keeper.beat()
    assert kept.jobs.trips == [[Renewal("a", 1), Renewal("b", 1)]]


@pytest.mark.parametrize(
    ("reply", "kind"), [("cancelled", Cancelled), ("paused", Parked), ("superseded", Superseded)]
)
def test_a_reply_stops_its_job_alone(kept: Kept, reply: RenewalReply, kind: type[RLMError]) -> None:
    kept.jobs.replies["a"] = reply
    with kept.lease("a") as a, kept.lease("b") as b:
        stopped, other = reasons(a), reasons(b)
        kept.keeper.beat()
        assert isinstance(wait_until(lambda: stopped)[0], kind)
        assert other == []


def test_a_stop_that_hangs_delays_no_renewal_and_no_other_stop(kept: Kept) -> None:
    hangs = threading.Event()
    kept.jobs.replies = {"a": "cancelled", "b": "cancelled"}

    def hang(_: RLMError) -> None:
        hangs.wait()

    with kept.lease("a") as a, kept.lease("b") as b, kept.lease("c"):
        a.on_lost(hang)
        stopped = reasons(b)
        try:
            kept.keeper.beat()
            wait_until(lambda: stopped)
            kept.keeper.beat()
            assert [len(trip) for trip in kept.jobs.trips] == [3, 3]
        finally:
            hangs.set()


def test_a_worker_that_stops_parks_all_its_jobs(kept: Kept) -> None:
    with kept.lease("a") as a, kept.lease("b") as b:
        stopped = [reasons(a), reasons(b)]
        kept.stopping = True
        kept.keeper.beat()
        wait_until(lambda: all(stopped))
        assert all(isinstance(found[0], Parked) for found in stopped)


def test_a_jobs_time_is_up_and_stands_still_while_the_endpoint_is_away(kept: Kept) -> None:
    with kept.lease("a", max_seconds=3600) as a, kept.lease("b", max_seconds=10_000) as b:
        over, other = reasons(a), reasons(b)
        kept.waits = True
        kept.keeper.beat()
        assert isinstance(wait_until(lambda: over)[0], LimitExceeded)
        assert other == []
        used_s = b.used_s
        kept.keeper.beat()
        assert b.used_s - used_s < used_s / 1000


def test_a_job_that_redis_cannot_handle_costs_the_others_nothing(kept: Kept) -> None:
    kept.jobs.replies = {"a": TypeError("WRONGTYPE"), "b": "cancelled"}
    with kept.lease("a"), kept.lease("b") as b:
        stopped = reasons(b)
        kept.keeper.beat()
        wait_until(lambda: stopped)
    assert [len(trip) for trip in kept.jobs.trips] == [2, 1, 1]


def test_without_redis_there_is_one_trip(kept: Kept) -> None:
    kept.jobs.replies["a"] = Unreachable("Redis", "somewhere", "down", "")
    with kept.lease("a"), kept.lease("b"), pytest.raises(Unreachable):
        kept.keeper.beat()
    assert len(kept.jobs.trips) == 1


def test_a_trace_that_cannot_be_stored_keeps_no_other_from_it(kept: Kept) -> None:
    def fail() -> None:
        raise Unreachable("Redis", "somewhere", "down", "")

    flush: Callable[[], None] = JobLease(record(spec("a")), kept.keeper, ran_ms=0, store_trace=fail).flush
    flush()


def test_where_no_thread_can_be_started_leases_are_renewed_and_the_stop_is_tried_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stopped = threading.Event()
    with kept.lease("a", max_seconds=1) as a, kept.lease("b"):
        a.on_lost(lambda error: stopped.set())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            kept.keeper.beat()
        assert [[renewal.job_id for renewal in trip] for trip in kept.jobs.trips] == [["a", "b"]]
        kept.keeper.beat()
        assert stopped.wait(20)
