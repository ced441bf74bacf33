"""Decides which calls of this process may start now in one scope, an endpoint and model; no I/O, no clock.

The process leases from the store a share of the calls that may be in flight. Within its share, calls start
and end without a message to Redis. ``report_due`` says when the next report to the store is due: every
``BEAT_S`` while calls start and end, and sooner if a call is refused or calls begin to wait. While its calls
only run, the process reports nothing but its lease, and no call starts on a share older than ``BEAT_S``. A
share that is not renewed ends with its lease, here as in the store: while Redis is away, calls wait.

A refusal shrinks the share at once to the calls in flight, until the store has judged it. After ``FAILURES``
attempts in a row without any answer the endpoint counts as away: one call tries at a time, after pauses that
grow.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import NamedTuple

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.fair_queue import FairQueue
from rlm_dist.schema.limits import Report, Share, latency_bucket

BEAT_S = 0.25
FAILURES = 3
# The least time between two reports: what happens meanwhile goes into the second.
_GAP_S = 0.01
_MOST_REPORTED = 200
_ANY = 1_000_000
_FIRST_PAUSE_S, _PAUSE_GROWS, _LONGEST_PAUSE_S = 1.0, 1.5, 60.0
# During a shorter outage, calls wait here and are not given back.
_GIVE_BACK_S = 5.0


class Permit(NamedTuple):
    """Permission to make one call; ``tokens`` is the call's estimate, ``began`` when it was given."""

    epoch: int
    tokens: int
    began: float = 0.0


class AttemptEnd(Enum):
    """How an attempt ended, as far as the limits need to know."""

    ANSWERED = auto()  # by a reply
    FAILED = auto()  # by an error other than the next two: it shows that the endpoint answers
    REFUSED = auto()  # by a 429
    UNHEARD = auto()  # no connection, or a response which says that the endpoint is away
    ABORTED = auto()  # by us, so it says nothing about the endpoint


@dataclass(eq=False)
class Waiter:
    """A call that waits for a permit; either ``start`` or ``fail`` is called, once.

    It has waited since ``since``, and fails if the endpoint wants no calls until after ``deadline``.
    ``elsewhere`` says that another endpoint would take the call now, so it need not wait here.
    """

    job_id: str
    tokens: int
    since: float
    deadline: float
    elsewhere: bool
    start: Callable[[Permit], None]
    fail: Callable[[CallError], None]


class Permits:
    """The share of one process; if it is not ``shared`` with others, it has no bounds.

    While the endpoint is away, calls wait, for ``outage_s`` at most; with ``gives_back`` all but one, which
    is to try, end as ``returned``.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        lease_s: float,
        shared: bool = True,
        gives_back: bool = False,
        outage_s: float = math.inf,
    ) -> None:
        self._now = now
        self._lease_s = lease_s
        self._shared = shared
        self._gives_back = gives_back
        self._outage_s = outage_s
        self.in_flight = 0
        self.blocked_until = 0.0
        self._room = 0 if shared else _ANY
        self._until = 0.0 if shared else math.inf
        self._epoch = 0
        # The calls that may start now; None if no rate is limited, which the first share says.
        self._starts: int | None = 0 if shared else None
        self._starts_at = 0.0
        self._waiting: FairQueue[Waiter] = FairQueue()
        # The circuit breaker: consecutive attempts without an answer, since when, and when the next may try.
        self._failures = 0
        self._failing_since = 0.0
        self._away_since: float | None = None
        self._tries = 0
        self._try_at = 0.0
        # The report that is being sent, or else the last one.
        self._number = 0
        self._reporting = False
        self._reported_at = -math.inf
        self._wanted = 0
        # What the next report says.
        self._urgent = False
        self._peak = 0
        self._started = self._refused = self._answered = self._late = self._ended = self._extra_tokens = 0
        self._errors = 0
        self._latencies: Counter[int] = Counter()
        self._retry_after_s = self._blocked_s = 0.0
        self._heard = False

    @property
    def crowded(self) -> bool:
        """Whether calls of this process wait for a permit."""
        return bool(self._waiting)

    @property
    def quiet(self) -> bool:
        """Whether the share is older than ``BEAT_S``: no call starts before the next report."""
        return self._shared and not self._reporting and self._now() - self._reported_at > BEAT_S

    @property
    def away(self) -> bool:
        """Whether the endpoint is away: it answers nothing, to this process or to all."""
        return self._failures >= FAILURES or self._away_since is not None

    @property
    def away_for_s(self) -> float:
        """How long the endpoint has been away; 0 if it is not."""
        if not self.away:
            return 0.0
        since = self._failing_since if self._away_since is None else self._away_since
        return self._now() - since

    @property
    def outage(self) -> CallError | None:
        """The error for a call whose attempts failed, once the endpoint has been away for too long."""
        if self.away_for_s <= self._outage_s:
            return None
        away_s = self.away_for_s
        span = f"{away_s:.0f} seconds" if away_s < 120 else f"{away_s / 60:.0f} minutes"
        return CallError(FailureKind.OUTAGE, f"the endpoint has been away for {span}")

    @property
    def closed_until(self) -> float:
        """The time until which a call should go to another endpoint if it can."""
        return max(self.blocked_until, self._try_at) if self.away else self.blocked_until

    @property
    def has_reported(self) -> bool:
        """Whether the store may hold a share for this process."""
        return self._number > 0

    def acquire(self, tokens: int) -> Permit | None:
        """A permit if the call may start now, else None; call ``release`` when the call has ended."""
        if self._waiting or not self._may_start():
            return None
        return self._start(tokens)

    def wait(self, waiter: Waiter) -> None:
        """Let a call wait for its permit."""
        self._waiting.add(waiter.job_id, waiter)
        self._peak = max(self._peak, self.in_flight + len(self._waiting))
        self._urgent = self._urgent or len(self._waiting) == 1
        self._reject_waiting()

    def discard(self, waiter: Waiter) -> None:
        """Remove a waiting call, if it still waits."""
        self._waiting.discard(waiter.job_id, waiter)

    def release(
        self,
        permit: Permit,
        ended: AttemptEnd,
        *,
        tokens: int | None = None,
        retry_after_s: float = 0.0,
        blocked_s: float = 0.0,
    ) -> None:
        """Release a permit: ``ended`` is how its attempt ended, ``tokens`` what it used, if that is known.

        ``retry_after_s`` is the delay that a refusal asked for, for this call alone; ``blocked_s`` is how
        long the endpoint wants no calls at all.
        """
        self.in_flight -= 1
        self._ended += 1
        if tokens is not None:
            self._extra_tokens += tokens - permit.tokens
        if blocked_s:
            self.block(blocked_s)
            self._blocked_s = max(self._blocked_s, blocked_s)
            self._urgent = True
        if ended is AttemptEnd.REFUSED:
            self._note_refusal(permit, retry_after_s)
        elif ended in (AttemptEnd.ANSWERED, AttemptEnd.FAILED) and permit.epoch == self._epoch:
            self._answered += 1
        if ended is AttemptEnd.ANSWERED:
            self._latencies[latency_bucket(self._now() - permit.began)] += 1
        elif ended in (AttemptEnd.FAILED, AttemptEnd.UNHEARD):
            self._errors += 1
        if ended is AttemptEnd.UNHEARD:
            self._note_silence()
        elif ended is not AttemptEnd.ABORTED:
            self._note_answer()
        self.let_in()

    def block(self, seconds: float) -> None:
        """Start no call for this many seconds."""
        self.blocked_until = max(self.blocked_until, self._now() + seconds)
        self._reject_waiting()

    def fail(self, error: CallError, job_id: str | None = None) -> None:
        """Make the waiting calls raise ``error``: all, or those of one job."""
        self._fail(list(self._waiting if job_id is None else self._waiting.of(job_id)), error)

    def let_in(self) -> None:
        """Start the waiting calls that may start now."""
        while self._waiting and self._may_start():
            waiter = self._waiting.pop()
            waiter.start(self._start(waiter.tokens))

    def report_due(self) -> float:
        """When the next report is due; never (infinity) if there is nothing to report."""
        if self._reporting or not self._shared:
            return math.inf
        earliest = max(self._reported_at + _GAP_S, 0.0)
        if self._urgent or (self._waiting and self._peak > 1.5 * self._wanted + 4):
            return earliest
        if self.away:
            return self._due_away()
        if self._wanted or self._waiting or self.in_flight:
            has_news = self._started or self._ended or self._waiting or not self.in_flight
            return max(earliest, self._reported_at + (self._pause_s() if has_news else self._lease_s / 4))
        return math.inf

    def report(self) -> Report:
        """Begin a report; until ``take``, no call starts that the new share might not allow."""
        self._wanted, self._peak = self._peak, self.in_flight + len(self._waiting)
        self._reporting = True
        self._shrink()
        rate_limited = self._starts is not None
        self._starts = 0 if rate_limited else None
        self._number += 1
        report = Report(
            number=self._number,
            in_flight=self.in_flight,
            wanted=self._wanted,
            waiting=len(self._waiting),
            epoch=self._epoch,
            started=self._started,
            refused=self._refused,
            answered=self._answered,
            late=self._late,
            retry_after_s=self._retry_after_s,
            ended=self._ended,
            blocked_s=self._blocked_s,
            heard=self._heard,
            failing_s=self._now() - self._failing_since if self._failures >= FAILURES else 0.0,
            extra_tokens=self._extra_tokens,
            waiting_tokens=tuple(waiter.tokens for waiter in islice(self._waiting, _MOST_REPORTED))
            if rate_limited
            else (),
            errors=self._errors,
            latencies=tuple(self._latencies.items()),
        )
        self._urgent = self._heard = False
        self._started = self._refused = self._answered = self._late = self._ended = self._extra_tokens = 0
        self._errors = 0
        self._latencies.clear()
        self._retry_after_s = self._blocked_s = 0.0
        return report

    def take(self, share: Share, began: float) -> None:
        """Take the share that answers the report begun at ``began``, and start the calls that may start."""
        self._reporting = False
        self._reported_at = self._now()
        self._room, self._until = share.in_flight, began + self._lease_s
        if share.epoch != self._epoch:
            self._late += self._refused
            self._epoch, self._started, self._refused, self._answered = share.epoch, 0, 0, 0
        self._starts, self._starts_at = share.starts, self._now() + share.wait_s
        if share.blocked_s:
            self.block(share.blocked_s)
        if self._refused or self._late:
            self._shrink()
        self._note_away(share)
        self.let_in()

    def give_up(self) -> Report:
        """The report that leaves the share to the other processes."""
        return Report(number=self._number + 1, in_flight=0, wanted=0)

    def _may_start(self) -> bool:
        now = self._now()
        return (
            self.in_flight < self._room
            and self._starts != 0
            and self.blocked_until <= now < self._until
            and not self.quiet
            and not (self._failures >= FAILURES and now < self._try_at)
        )

    def _start(self, tokens: int) -> Permit:
        self.in_flight += 1
        self._started += 1
        self._peak = max(self._peak, self.in_flight)
        if self._starts is not None:
            self._starts -= 1
        if self._failures >= FAILURES:
            self._tries += 1
            self._pause()
        return Permit(self._epoch, tokens, self._now())

    def _shrink(self) -> None:
        """Cut the room to the calls in flight, until the next share arrives."""
        if self._shared:
            self._room = min(self._room, self.in_flight)

    def _note_refusal(self, permit: Permit, retry_after_s: float) -> None:
        if permit.epoch == self._epoch:
            self._refused += 1
            self._retry_after_s = max(self._retry_after_s, retry_after_s)
        else:
            self._late += 1
        self._shrink()
        self._urgent = True

    def _note_silence(self) -> None:
        if not self._shared:
            return
        self._failures += 1
        if self._failures == 1:
            self._failing_since = self._now()
        outage = self.outage
        if outage is not None:
            self.fail(outage)
        if self._failures == FAILURES:
            self._tries = 0
            self._pause()
            self._urgent = True
            self._reject_waiting()

    def _note_answer(self) -> None:
        if self.away:
            self._urgent = True
        self._failures = 0
        self._away_since = None
        self._heard = True

    def _pause(self) -> None:
        self._try_at = self._now() + min(
            _LONGEST_PAUSE_S, _FIRST_PAUSE_S * _PAUSE_GROWS ** min(self._tries, 20)
        )

    def _note_away(self, share: Share) -> None:
        if share.away_s:
            self._away_since = self._now() - share.away_s
            self._try_at = self._now() + share.try_s if not share.in_flight else 0.0
        elif self._away_since is not None:
            self._away_since = None
            self._failures = 0
        self._reject_waiting()

    def _reject_waiting(self) -> None:
        """Fail the waiting calls that should not wait for an endpoint that takes no calls."""
        blocked_s = self.blocked_until - self._now()
        if blocked_s > 0:
            text = f"the endpoint takes no calls for {blocked_s:.0f} s, past this call's deadline"
            late = [waiter for waiter in self._waiting if waiter.deadline < self.blocked_until]
            self._fail(late, CallError(FailureKind.RATE, text, blocked_s))
        if not self.away:
            return
        text = "the endpoint is away"
        movable = [waiter for waiter in self._waiting if waiter.elsewhere]
        self._fail(movable, CallError(FailureKind.RATE, text))
        outage = self.outage
        if outage is not None:
            self._fail([waiter for waiter in self._waiting if self._has_tried(waiter)], outage)
        elif self._gives_back and self.away_for_s > _GIVE_BACK_S:
            self._fail(list(islice(self._waiting, 1, None)), CallError(FailureKind.RETURNED, text))

    def _has_tried(self, waiter: Waiter) -> bool:
        """Whether the endpoint was tried while this call waited; a late call waits for the next try."""
        now = self._now()
        return waiter.since < now - self.away_for_s + self._outage_s or now - waiter.since > _LONGEST_PAUSE_S

    def _fail(self, waiters: Iterable[Waiter], error: CallError) -> None:
        for waiter in waiters:
            self.discard(waiter)
            waiter.fail(error)

    def _due_away(self) -> float:
        """When a report is due while the endpoint is away: at the next try, or in time to renew the lease."""
        if not (self._waiting or self.in_flight):
            return math.inf
        longest = self._reported_at + self._lease_s / 4
        return max(self._reported_at + _GAP_S, min(longest, self._try_at) if self._waiting else longest)

    def _pause_s(self) -> float:
        now = self._now()
        if self._waiting and self.blocked_until > now:
            return min(BEAT_S, self.blocked_until - self._reported_at)
        return (
            min(BEAT_S, self._starts_at - self._reported_at)
            if self._waiting and self._starts == 0
            else BEAT_S
        )
