"""What one process may start, by its share and its clock; nothing here waits."""

import pytest

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.permits import BEAT_S, FAILURES, AttemptEnd, Permit, Permits, Waiter
from rlm_dist.schema.limits import Share, latency_bucket

NEVER = float("inf")


class Desk:
    """The permits of a process, a clock that the test sets, and the results of its calls."""

    def __init__(self, **options: float) -> None:
        self.now = 100.0
        self.permits = Permits(lambda: self.now, lease_s=10.0, **options)  # type: ignore[arg-type]
        self.started: list[str] = []
        self.failed: list[tuple[str, FailureKind]] = []

    def wait(self, job_id: str = "j", *, patience_s: float = 1000.0) -> None:
        """Let a call wait."""

        def start(_: Permit) -> None:
            self.started.append(job_id)

        def fail(error: CallError) -> None:
            self.failed.append((job_id, error.kind))

        self.permits.wait(
            Waiter(
                job_id=job_id, tokens=1, since=self.now, deadline=self.now + patience_s,
                elsewhere=patience_s <= 0, start=start, fail=fail,
            )
        )  # fmt: skip

    def share(self, in_flight: int, **more: float) -> None:
        """Report, and receive this share."""
        self.permits.report()
        self.permits.take(Share(in_flight=in_flight, epoch=int(more.pop("epoch", 0)), **more), self.now)  # type: ignore[arg-type]

    def acquire(self) -> Permit:
        """Take a permit, which must be free."""
        permit = self.permits.acquire(1)
        assert permit is not None
        return permit


def test_nothing_starts_before_the_first_share() -> None:
    desk = Desk()
    assert desk.permits.report_due() == NEVER
    assert desk.permits.acquire(1) is None
    desk.wait()
    assert desk.permits.report_due() <= desk.now
    desk.share(1)
    assert desk.started == ["j"]


def test_no_more_start_than_the_share_allows() -> None:
    desk = Desk()
    desk.wait()
    desk.share(2)
    desk.acquire()
    assert desk.permits.acquire(1) is None


def test_a_share_ends_with_its_lease() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    desk.permits.report()  # an unanswered attempt
    desk.now += 10.0
    assert desk.permits.acquire(1) is None


def test_a_report_is_due_each_beat_while_calls_start_and_end() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    desk.acquire()
    assert desk.permits.report_due() == desk.now + BEAT_S


def test_while_calls_only_run_a_report_is_due_for_the_lease_alone_and_before_the_next_start() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    desk.share(9)
    assert desk.permits.report_due() == desk.now + 2.5
    desk.now += 2 * BEAT_S
    assert desk.permits.quiet
    assert desk.permits.acquire(1) is None
    desk.wait()
    assert desk.permits.report_due() <= desk.now


def test_a_process_that_wants_nothing_says_so_once() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    desk.permits.release(Permit(0, 1), AttemptEnd.ANSWERED)
    desk.share(9)
    desk.share(0)
    assert desk.permits.report_due() == NEVER


def test_a_refusal_shrinks_the_share_until_the_store_has_looked() -> None:
    desk = Desk()
    desk.wait()
    desk.share(3)
    permit = desk.acquire()
    desk.permits.release(permit, AttemptEnd.REFUSED, retry_after_s=2.0)
    assert desk.permits.acquire(1) is None
    assert desk.permits.report_due() <= desk.now + 0.01
    report = desk.permits.report()
    assert (report.started, report.refused, report.retry_after_s) == (2, 1, 2.0)
    desk.permits.take(Share(in_flight=3, epoch=0), desk.now)
    desk.acquire()


def test_refusals_of_older_epochs_are_told_apart() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    old = desk.acquire()
    desk.share(9, epoch=1)
    new = desk.acquire()
    desk.permits.release(old, AttemptEnd.REFUSED)
    desk.permits.release(new, AttemptEnd.REFUSED)
    report = desk.permits.report()
    assert (report.epoch, report.started, report.refused, report.late) == (1, 1, 1, 1)


def test_tokens_beyond_the_estimate_are_reported() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    desk.permits.release(desk.acquire(), AttemptEnd.ANSWERED, tokens=8)
    assert desk.permits.report().extra_tokens == 7


def test_calls_that_cannot_wait_for_the_end_of_a_block_fail() -> None:
    desk = Desk()
    desk.wait("patient")
    desk.wait("hurried", patience_s=5.0)
    desk.permits.block(60.0)
    assert desk.failed == [("hurried", FailureKind.RATE)]
    desk.share(9)
    assert desk.started == []
    desk.now += 60.0
    desk.share(9)
    assert desk.started == ["patient"]


def silent(desk: Desk, attempts: int) -> None:
    """End ``count`` attempts without an answer."""
    for _ in range(attempts):
        desk.permits.release(desk.acquire(), AttemptEnd.UNHEARD)


def test_after_failures_in_a_row_one_call_tries_at_a_time_after_growing_pauses() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    silent(desk, FAILURES)
    pauses = []
    for _ in range(12):
        assert desk.permits.acquire(1) is None
        pauses.append(desk.permits.closed_until - desk.now)
        desk.now = desk.permits.closed_until
        desk.share(9)
        silent(desk, 1)
    assert pauses[:3] == [1.0, 1.5, 2.25]
    assert pauses[-1] == 60.0


def test_any_answer_says_that_the_endpoint_is_there() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    silent(desk, FAILURES - 1)
    desk.permits.release(desk.acquire(), AttemptEnd.REFUSED)
    desk.share(9)
    silent(desk, FAILURES - 1)
    assert not desk.permits.away


@pytest.mark.parametrize("ended", [AttemptEnd.ABORTED, AttemptEnd.UNHEARD])
def test_a_call_that_was_aborted_says_nothing(ended: AttemptEnd) -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    silent(desk, FAILURES - 1)
    desk.permits.release(desk.acquire(), ended)
    assert desk.permits.away is (ended is AttemptEnd.UNHEARD)


def test_what_another_process_has_seen_stops_this_one() -> None:
    desk = Desk()
    desk.wait()
    desk.share(0, away_s=3.0, try_s=7.0)
    assert desk.permits.away
    assert desk.permits.closed_until == desk.now + 7.0
    assert desk.permits.report_due() == desk.now + 2.5  # its lease, before that
    desk.now += 7.0
    desk.share(1, away_s=10.0, try_s=10.0)
    assert desk.started == ["j"]
    desk.permits.release(Permit(0, 1), AttemptEnd.ANSWERED)
    assert not desk.permits.away


def test_waiting_calls_are_given_back_but_for_one_that_is_to_try() -> None:
    desk = Desk(gives_back=True)
    for job_id in "abc":
        desk.wait(job_id)
    desk.share(0, away_s=1.0, try_s=1.0)
    assert desk.failed == []  # the outage may be over in a moment
    desk.share(0, away_s=6.0, try_s=1.0)
    assert desk.failed == [("b", FailureKind.RETURNED), ("c", FailureKind.RETURNED)]
    desk.share(1, away_s=7.0, try_s=5.0)
    assert desk.started == ["a"]


def test_a_call_that_may_go_elsewhere_does_not_wait() -> None:
    desk = Desk()
    desk.share(0, away_s=1.0, try_s=1.0)
    desk.wait(patience_s=0.0)
    assert desk.failed == [("j", FailureKind.RATE)]


def test_after_too_long_an_outage_calls_end_and_later_ones_once_one_has_tried() -> None:
    desk = Desk(outage_s=30.0)
    desk.wait("before")
    desk.share(0, away_s=29.0, try_s=20.0)
    assert desk.failed == []
    desk.now += 2.0
    desk.share(0, away_s=31.0, try_s=18.0)
    assert desk.failed == [("before", FailureKind.OUTAGE)]
    assert desk.permits.outage is not None
    desk.now += 2.0
    desk.wait("after")  # a person has resumed the batch
    desk.wait("after too")
    desk.share(0, away_s=33.0, try_s=16.0)
    assert len(desk.failed) == 1
    desk.now += 16.0
    desk.share(1, away_s=49.0, try_s=60.0)
    assert desk.started == ["after"]
    desk.permits.release(Permit(0, 1), AttemptEnd.UNHEARD)
    assert desk.failed[1:] == [("after too", FailureKind.OUTAGE)]


def test_without_a_store_nothing_is_limited_and_nothing_is_away() -> None:
    desk = Desk(shared=False)
    silent(desk, 2 * FAILURES)
    assert not desk.permits.away
    assert desk.permits.report_due() == NEVER
    for _ in range(1000):
        desk.acquire()


def test_a_limit_of_rates_that_comes_with_a_share_holds_from_then_on() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    assert desk.permits.report().waiting_tokens == ()
    desk.permits.take(Share(in_flight=9, epoch=0, starts=0), desk.now)
    desk.wait("second")
    assert desk.started == ["j"]
    assert desk.permits.report_due() <= desk.now + 0.01
    assert desk.permits.report().waiting_tokens == (1,)
    desk.permits.take(Share(in_flight=9, epoch=0, starts=1), desk.now)
    assert desk.started == ["j", "second"]
    desk.share(9)
    assert desk.acquire()
    assert desk.acquire()


def test_errors_and_latencies_are_reported_once() -> None:
    desk = Desk()
    desk.wait()
    desk.share(9)
    permits = [desk.acquire() for _ in range(5)]
    ends = [
        AttemptEnd.ANSWERED,
        AttemptEnd.FAILED,
        AttemptEnd.UNHEARD,
        AttemptEnd.REFUSED,
        AttemptEnd.ABORTED,
    ]
    for permit, ended in zip(permits, ends, strict=True):
        desk.now += 1.0
        desk.permits.release(permit, ended)
    report = desk.permits.report()
    assert report.latencies == ((latency_bucket(1.0), 1),)
    assert (report.ended, report.errors, report.answered) == (5, 2, 2)
    desk.permits.take(Share(in_flight=9, epoch=0), desk.now)
    later = desk.permits.report()
    assert (later.latencies, later.errors) == ((), 0)
