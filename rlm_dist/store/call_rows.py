"""The sub-calls of a job, read page by page for people: states, results, requests and charges.

A job may have made 100,000 calls with long texts, so nothing here reads them all at once.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart

_CALLS_AT_ONCE = 200
_CHARGES_AT_ONCE = 2000


class CallStage(StrEnum):
    """What has become of a call: nobody has it, a worker has it, or it has ended."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    ENDED = "ended"


class StoredCall(NamedTuple):
    """A sub-call as it is stored.

    ``owner`` is the worker that has it, or that ended it; None while it waits. ``lapsed`` counts the workers
    that abandoned it in the middle. ``result`` and ``request`` are packed (``blobs.payloads``); the request
    is None if it was not read.
    """

    id: str
    stage: CallStage
    owner: str | None
    lapsed: int
    result: str | None = None
    request: str | None = None


class PaidCall(NamedTuple):
    """What was paid for one call, over all its attempts; money is None if a price is unknown."""

    nanousd: int | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int

    def plus(self, other: "PaidCall") -> "PaidCall":
        """The sum of both."""
        unpriced = self.nanousd is None or other.nanousd is None
        nanousd = None if unpriced else (self.nanousd or 0) + (other.nanousd or 0)
        return PaidCall(nanousd, *(mine + theirs for mine, theirs in zip(self[1:], other[1:], strict=True)))


class CallRows(StorePart):
    """The part of the store that reads the calls of a job for people."""

    def pages(self, job_id: str, *, requests: bool = False) -> Iterator[list[StoredCall]]:
        """All sub-calls of a job in pages, in no order; ``requests`` says whether to read their requests.

        A call that is opened or ends meanwhile may be missing, or come twice.
        """
        cursor: int | None = None
        while cursor != 0:
            cursor, states = self._scan(job_id, cursor or 0)
            pairs = list(states.items())
            for start in range(0, len(pairs), _CALLS_AT_ONCE):
                page = self._page(job_id, pairs[start : start + _CALLS_AT_ONCE], requests=requests)
                if page:
                    yield page

    def paid(self, job_id: str) -> dict[str, PaidCall]:
        """What was paid so far, by call id; root calls are included."""
        key, sums, start = keys.job(job_id, "charges"), dict[str, PaidCall](), 0
        while lines := self._charges(key, start):
            for line in lines:
                call_id, _, input_, cached, output, _, nanousd, _ = line.split(" ", 7)
                money = None if nanousd == "-" else int(nanousd)
                charge = PaidCall(money, int(input_), int(cached), int(output))
                sums[call_id] = sums[call_id].plus(charge) if call_id in sums else charge
            start += len(lines)
        return sums

    def _charges(self, key: str, start: int) -> list[str]:
        return list(self._reach(lambda: self._client.lrange(key, start, start + _CHARGES_AT_ONCE - 1)))

    def _scan(self, job_id: str, cursor: int) -> tuple[int, dict[str, str]]:
        key = keys.job(job_id, "calls")
        cursor, states = self._reach(lambda: self._client.hscan(key, cursor, count=_CALLS_AT_ONCE))
        return int(cursor), states

    def _page(self, job_id: str, states: Sequence[tuple[str, str]], *, requests: bool) -> list[StoredCall]:
        """The sub-calls among these calls: only they have a stored request."""
        ids = [call_id for call_id, _ in states]

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.hmget(keys.job(job_id, "results"), ids)
            if requests:
                pipe.hmget(keys.job(job_id, "requests"), ids)
            else:
                for call_id in ids:
                    pipe.hexists(keys.job(job_id, "requests"), call_id)
            return list(pipe.execute())

        results, *rest = self._reach(read)
        texts: list[Any] = rest[0] if requests else rest
        return [
            _stored(call_id, state, result, text if requests else None)
            for (call_id, state), result, text in zip(states, results, texts, strict=True)
            if text
        ]


def _stored(call_id: str, state: str, result: str | None, request: str | None) -> StoredCall:
    """A call from its state, whose format is in ``lua/prelude_calls.lua``."""
    kind, *parts = state.split(" ")
    if kind == "p":
        return StoredCall(call_id, CallStage.WAITING, None, int(parts[3]), result, request)
    if kind == "c":
        owner = " ".join(parts[5:])
        return StoredCall(call_id, CallStage.CLAIMED, owner, int(parts[3]), result, request)
    return StoredCall(call_id, CallStage.ENDED, " ".join(parts[3:]), int(parts[2]), result, request)
