"""Which calls of this process may start now at one place, an endpoint and model; no I/O and no clock.

The process has a share of the calls that may be in flight, leased from the store. Within it a call starts and
ends without a word to Redis. ``report_due`` says when the store is to hear what happened: every ``BEAT_S``
while calls start and end, and sooner if a call is refused, or if calls begin to wait. While those in flight
just go on nothing is reported but for the lease, and no call starts on a share that is older than a beat. A
share that was not renewed ends with its lease, here as in the store: while Redis is away, calls wait.

Refusals shrink the share at once, to what is in flight, until the store has looked at them. After
``FAILURES`` attempts in a row without any answer the place counts as away: one call tries at a time, after
pauses that grow.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import NamedTuple

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.fair_queue import FairQueue
from rlm_dist.schema.limits import Report, Share

BEAT_S = 0.25
FAILURES = 3
# Reports are at least so far apart: what happens in between goes together.
_GAP_S = 0.01
_MOST_REPORTED = 200
_ANY = 1_000_000
_FIRST_PAUSE_S, _PAUSE_GROWS, _LONGEST_PAUSE_S = 1.0, 1.5, 60.0
# A shorter outage is waited for in place.
_GIVE_BACK_S = 5.0


class Permit(NamedTuple):
    """Leave to make one call; ``tokens`` is the estimate that it was given for."""

    epoch: int
    tokens: int


class AttemptEnd(Enum):
    """How an attempt ended, as far as the limits are concerned."""

    ANSWERED = auto()  # by anything that is neither of the next two: also an error is a sign of life
    REFUSED = auto()  # by a 429
    UNHEARD = auto()  # no connection, or an answer that says that the endpoint is away
    ABORTED = auto()  # by us, so that it says nothing


@dataclass(eq=False)
class Waiter:
    """A call that waits: ``start`` or ``fail`` is called once.

    It waits since ``since``, and gives up if the endpoint wants no calls until after ``deadline``.
    ``elsewhere`` says that another endpoint would take it now, so that it need not wait at all.
    """

    job_id: str
    tokens: int
    since: float
    deadline: float
    elsewhere: bool
    start: Callable[[Permit], None]
    fail: Callable[[CallError], None]


class Permits:
    """The share of one process; one that is not ``shared`` with others is without bounds.

    ``rates`` says that what may start in a minute is limited. With ``gives_back``, calls that wait while the
    place is away are given back, but for one that is to try; else they wait, for ``outage_s`` at most.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        lease_s: float,
        shared: bool = True,
        rates: bool = False,
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
        self._starts: int | None = 0 if shared and rates else None
        self._starts_at = 0.0
        self._waiting: FairQueue[Waiter] = FairQueue()
        # The circuit: attempts in a row without an answer, since when, and when one may try.
        self._failures = 0
        self._failing_since = 0.0
        self._away_since: float | None = None
        self._tries = 0
        self._try_at = 0.0
        # The report under way or made last.
        self._number = 0
        self._reporting = False
        self._reported_at = -math.inf
        self._wanted = 0
        # What the next report says.
        self._urgent = False
        self._peak = 0
        self._started = self._refused = self._answered = self._late = self._ended = self._extra_tokens = 0
        self._retry_after_s = self._blocked_s = 0.0
        self._heard = False

    @property
    def crowded(self) -> bool:
        """Whether calls of this process wait here."""
        return bool(self._waiting)

    @property
    def quiet(self) -> bool:
        """Whether the share is older than a beat: no call starts then before the next report."""
        return self._shared and not self._reporting and self._now() - self._reported_at > BEAT_S

    @property
    def away(self) -> bool:
        """Whether nothing is heard of the place, by this process or by all."""
        return self._failures >= FAILURES or self._away_since is not None

    @property
    def away_for_s(self) -> float:
        """For how long nothing has been heard of the place; 0 if it is not away."""
        if not self.away:
            return 0.0
        since = self._failing_since if self._away_since is None else self._away_since
        return self._now() - since

    @property
    def outage(self) -> CallError | None:
        """The end of a call that has tried in vain, once the place has been away for too long."""
        if self.away_for_s <= self._outage_s:
            return None
        seconds = self.away_for_s
        span = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
        return CallError(FailureKind.OUTAGE, f"the endpoint has been away for {span}")

    @property
    def closed_until(self) -> float:
        """Until when no call is to start here, for one that could go elsewhere."""
        return max(self.blocked_until, self._try_at) if self.away else self.blocked_until

    @property
    def has_reported(self) -> bool:
        """Whether the store holds a share for this process, as far as it knows."""
        return self._number > 0

    def acquire(self, tokens: int) -> Permit | None:
        """A permit, if the call may start now; ``release`` is to be called when it has ended."""
        if self._waiting or not self._may_start():
            return None
        return self._start(tokens)

    def wait(self, waiter: Waiter) -> None:
        """Have a call wait for its permit."""
        self._waiting.add(waiter.job_id, waiter)
        self._peak = max(self._peak, self.in_flight + len(self._waiting))
        self._urgent = self._urgent or len(self._waiting) == 1
        self._turn_away()

    def discard(self, waiter: Waiter) -> None:
        """Forget a call that waits, if it does."""
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
        """Give a permit back: how its attempt ended, and the tokens that it used, if that is known.

        ``retry_after_s`` is what a refusal said of this call; ``blocked_s`` is for how long no calls are
        wanted at all.
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
        elif ended is AttemptEnd.ANSWERED and permit.epoch == self._epoch:
            self._answered += 1
        if ended is AttemptEnd.UNHEARD:
            self._note_silence()
        elif ended is not AttemptEnd.ABORTED:
            self._note_life()
        self.let_in()

    def block(self, seconds: float) -> None:
        """Start no call for so long."""
        self.blocked_until = max(self.blocked_until, self._now() + seconds)
        self._turn_away()

    def fail(self, error: CallError, job_id: str | None = None) -> None:
        """Have the calls that wait raise ``error``: all, or those of one job."""
        self._fail(list(self._waiting if job_id is None else self._waiting.of(job_id)), error)

    def let_in(self) -> None:
        """Start the calls that wait and may start."""
        while self._waiting and self._may_start():
            waiter = self._waiting.pop()
            waiter.start(self._start(waiter.tokens))

    def report_due(self) -> float:
        """When the next report is to be made; never, if there is nothing to say."""
        if self._reporting or not self._shared:
            return math.inf
        earliest = max(self._reported_at + _GAP_S, 0.0)
        if self._urgent or (self._waiting and self._peak > 1.5 * self._wanted + 4):
            return earliest
        if self.away:
            return self._due_away()
        if self._wanted or self._waiting or self.in_flight:
            news = self._started or self._ended or self._waiting or not self.in_flight
            return max(earliest, self._reported_at + (self._pause_s() if news else self._lease_s / 4))
        return math.inf

    def report(self) -> Report:
        """Begin a report; until ``take`` nothing starts on the old share that the new one might not allow."""
        self._wanted, self._peak = self._peak, self.in_flight + len(self._waiting)
        self._reporting = True
        self._shrink()
        counted = self._starts is not None
        self._starts = 0 if counted else None
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
            waiting_tokens=tuple(each.tokens for each in islice(self._waiting, _MOST_REPORTED))
            if counted
            else (),
        )
        self._urgent = self._heard = False
        self._started = self._refused = self._answered = self._late = self._ended = self._extra_tokens = 0
        self._retry_after_s = self._blocked_s = 0.0
        return report

    def take(self, share: Share, began: float) -> None:
        """Take the share that the report of ``began`` was answered with, and start what may start."""
        self._reporting = False
        self._reported_at = self._now()
        self._room, self._until = share.in_flight, began + self._lease_s
        if share.epoch != self._epoch:
            self._late += self._refused
            self._epoch, self._started, self._refused, self._answered = share.epoch, 0, 0, 0
        if self._starts is not None:
            self._starts, self._starts_at = share.starts or 0, self._now() + share.wait_s
        if share.blocked_s:
            self.block(share.blocked_s)
        if self._refused or self._late:
            self._shrink()
        self._note_away(share)
        self.let_in()

    def give_up(self) -> Report:
        """The report that leaves the share to the others."""
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
        return Permit(self._epoch, tokens)

    def _shrink(self) -> None:
        """Start no call beyond those that are in flight now, until the next share has come."""
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
            self._turn_away()

    def _note_life(self) -> None:
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
        self._turn_away()

    def _turn_away(self) -> None:
        """Fail what is not to wait for a place that takes no calls."""
        left_s = self.blocked_until - self._now()
        if left_s > 0:
            text = f"the endpoint takes no calls for {left_s:.0f} s, past this call's deadline"
            late = [each for each in self._waiting if each.deadline < self.blocked_until]
            self._fail(late, CallError(FailureKind.RATE, text, left_s))
        if not self.away:
            return
        text = "the endpoint is away"
        self._fail([each for each in self._waiting if each.elsewhere], CallError(FailureKind.RATE, text))
        outage = self.outage
        if outage is not None:
            self._fail([each for each in self._waiting if self._has_tried(each)], outage)
        elif self._gives_back and self.away_for_s > _GIVE_BACK_S:
            self._fail(list(islice(self._waiting, 1, None)), CallError(FailureKind.RETURNED, text))

    def _has_tried(self, waiter: Waiter) -> bool:
        """Whether a call that waits has seen a try; one that came late in an outage waits for the next."""
        now = self._now()
        return waiter.since < now - self.away_for_s + self._outage_s or now - waiter.since > _LONGEST_PAUSE_S

    def _fail(self, waiters: Iterable[Waiter], error: CallError) -> None:
        for waiter in waiters:
            self.discard(waiter)
            waiter.fail(error)

    def _due_away(self) -> float:
        """While the place is away: when the next call may try, or the lease gets old."""
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
