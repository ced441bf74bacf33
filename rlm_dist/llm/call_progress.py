"""What has become of one call so far: its attempts, their cost, and the time that is left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rlm_dist.errors import FailureKind
from rlm_dist.llm.failures import TierUnavailable
from rlm_dist.llm.upstreams import Upstream
from rlm_dist.llm.wire import Attempt
from rlm_dist.schema import CallFailure, CallResult, Charge


@dataclass(slots=True)
class CallProgress:
    """The attempts of a call so far; times are those of ``time.monotonic``."""

    started: float
    deadline: float
    wasted: list[Charge] = field(default_factory=list)
    failures: list[FailureKind] = field(default_factory=list)
    counted: int = 0  # failed attempts since the endpoint was last away: the retry policy counts these
    tried: list[Upstream] = field(default_factory=list)  # since the call last paused
    job_id: str = ""
    without_room: int = 0  # attempts for which the tier had no room
    started_ms: int = 0  # when the first attempt began (Unix, by this process's clock)
    waited_s: float = 0.0  # for a slot and for permits

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Move the deadline by the time spent in this block: waiting in a queue does not count."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.waited_s += time.monotonic() - began
        self.deadline += time.monotonic() - began

    def begin(self) -> None:
        """Record that an attempt begins."""
        if not self.started_ms:
            self.started_ms = time.time_ns() // 1_000_000

    def note(self, attempt: Attempt, upstream: Upstream) -> None:
        """Record an attempt and its endpoint."""
        self.tried.append(upstream)
        if attempt.charge is not None:
            self.wasted.append(attempt.charge)
        if attempt.failure is not None:
            self.failures.append(attempt.failure.kind)
            self.counted += 1
            self.without_room += isinstance(attempt.failure, TierUnavailable)

    def start_over(self, seconds: float) -> None:
        """Reset the retry count and the deadline: the endpoint was away, or another tier is asked."""
        self.counted = 0
        self.deadline = time.monotonic() + seconds

    def result(self, attempt: Attempt) -> CallResult:
        """The result of the call; ``attempt`` was its last attempt."""
        failure = attempt.failure
        return CallResult(
            completion=attempt.completion,
            failure=CallFailure(kind=failure.kind, message=failure.message) if failure else None,
            wasted=tuple(self.wasted),
            attempts=len(self.failures) + (failure is None),
            failed_attempts=tuple(self.failures),
            seconds=time.monotonic() - self.started,
            started_ms=self.started_ms,
            waited_s=self.waited_s,
        )
