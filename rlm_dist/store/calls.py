"""Model calls of jobs: opened under a budget, claimed under a lease, settled once.

A call id is unique within its job. The ledger counts a settlement once, whatever is repeated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from rlm_dist.errors import FailureKind, LimitExceeded, RLMError, UnknownPrice
from rlm_dist.schema import NANO, CallFailure, CallResult, Role, Usage
from rlm_dist.store import keys
from rlm_dist.store.connection import MAX_BLOCK_MS, StorePart, fenced, new_token

MAX_LAPSES = 3
_UNPRICED = "unpriced"
_OPEN_AT_ONCE = 500
_SETTLE_AT_ONCE = 200
_READ_AT_ONCE = 500


@dataclass(frozen=True)
class OpenCall:
    """A call to open; ``request`` is stored as it is, and handed to whoever claims the call.

    ``reserve_nanousd`` is None where the price is unknown.
    """

    call_id: str
    request: str
    reserve_tokens: int
    reserve_nanousd: int | None
    role: Role = Role.SUB


class CallState(StrEnum):
    """Where a call is that was opened: just now, before, or answered."""

    NEW = "new"
    PENDING = "pending"
    SETTLED = "settled"


class SettledCall(NamedTuple):
    """A call that was settled: its id, and its stored result where that is short."""

    cursor: str
    call_id: str
    packed: str | None


class UnwantedCalls(NamedTuple):
    """Jobs whose calls are to be given up: all of them, or, where the job has ended, those not begun."""

    cancelled: set[str]
    ended: set[str]


@dataclass(frozen=True)
class CallRefused:
    """A call was not opened: ``used`` of ``limit`` is spent or reserved (USD for budgets of money).

    Or its price is unknown, and there is a budget of money: its ``kind`` is then ``unpriced``.
    """

    kind: str
    used: float
    limit: float

    def error(self, model: str) -> RLMError:
        """What the asker is to be told of this call to ``model``."""
        if self.kind == _UNPRICED:
            return UnknownPrice(model)
        return LimitExceeded(self.kind, self.used, self.limit)


@dataclass(frozen=True)
class Spend:
    """One attempt that the endpoint charged for; ``nanousd`` is None where the price is unknown."""

    model: str
    usage: Usage
    nanousd: int | None


@dataclass(frozen=True)
class Settlement:
    """The end of a call: its stored result and what was paid.

    ``result_json`` is empty where there is no result and only the charges count, as of a call that was
    aborted. ``spend`` is None where the call failed; ``wasted`` are other attempts that were charged.
    ``returned`` is not None where the call is to be given back instead, so that it is asked again, and says
    why its batch is to be paused, if it is; without a batch the result counts. ``cached`` says that the
    answer is another call's, and cost nothing. ``retries`` and
    ``rate_limited`` go into the counters of that name. The ``token`` makes it safe to settle the same object
    again, and two settlements of one call two payments.
    """

    call_id: str
    role: Role
    result_json: str
    spend: Spend | None
    wasted: Sequence[Spend] = ()
    returned: str | None = None
    cached: bool = False
    retries: int = 0
    rate_limited: int = 0
    token: str = field(default_factory=new_token)


_POISON = CallResult(
    failure=CallFailure(
        kind=FailureKind.INVALID,
        message=f"its worker died in the middle of it more than {MAX_LAPSES} times; it is not tried again",
    ),
    attempts=0,
).model_dump_json()


def reservation(state: str) -> tuple[int, int] | None:
    """Nano-dollars and tokens set aside for a call, by its stored state; None if it has ended.

    ``lua/prelude_calls.lua`` has the form of the state.
    """
    kind, _, nanousd, tokens, *_ = state.split(" ")
    return (int(nanousd), int(tokens)) if kind in ("p", "c") else None


class CallStore(StorePart):
    """The part of the store that knows calls."""

    def open(self, job_id: str, epoch: int, calls: Sequence[OpenCall]) -> list[CallState | CallRefused]:
        """Store new calls and reserve their budget, in order; root calls do not count as sub-calls.

        Raises:
            Superseded, Cancelled, Parked: where this epoch may not call any more.
        """
        states: list[CallState | CallRefused] = []
        for start in range(0, len(calls), _OPEN_AT_ONCE):
            args: list[str | int] = [epoch]
            for call in calls[start : start + _OPEN_AT_ONCE]:
                money = "" if call.reserve_nanousd is None else call.reserve_nanousd
                args += [call.call_id, call.role, call.request, money, call.reserve_tokens]
            reply = fenced(self._script("calls_open", keys.job_keys(job_id), *args), job_id, epoch)
            states += [_state(text) for text in reply]
        return states

    def claim(self, job_id: str, call_ids: Sequence[str], owner: str, lease_ms: int) -> list[str | None]:
        """The stored request of each call that this claim won; None where there is nothing to do.

        A call whose workers died in the middle of it more than ``MAX_LAPSES`` times is ended as failed.
        """
        args: list[str | int] = [owner, lease_ms, new_token(), MAX_LAPSES, _POISON, *call_ids]
        return list(self._script("calls_claim", keys.job_keys(job_id), *args))

    def renew(self, owner: str, calls: Mapping[str, Sequence[str]], lease_ms: int) -> UnwantedCalls:
        """Keep the calls that this worker runs, by job; returns the jobs that do not want them any more."""
        requests: list[tuple[list[str], list[str | int]]] = [
            (keys.job_keys(job_id), [owner, lease_ms, *ids]) for job_id, ids in calls.items()
        ]
        replies = self._scripts_at_once("calls_renew", requests)
        told = list(zip(calls, replies, strict=True))
        return UnwantedCalls(
            {job for job, reply in told if reply == 0}, {job for job, reply in told if reply == 2}
        )

    def settle(self, job_id: str, owner: str, settlements: Sequence[Settlement]) -> list[bool]:
        """End calls and count what was paid; True where the result is now the call's answer.

        Raises:
            NotFound: where the job's retention is over.
        """
        firsts: list[bool] = []
        kept = [self._unless_returned(job_id, owner, settlement) for settlement in settlements]
        for start in range(0, len(kept), _SETTLE_AT_ONCE):
            args: list[str | int] = [owner]
            for settlement in kept[start : start + _SETTLE_AT_ONCE]:
                args += _settle_args(settlement)
            reply = fenced(self._script("calls_settle", keys.job_keys(job_id), *args), job_id)
            firsts += [bool(first) for first in reply]
        self._count(job_id, kept)
        return firsts

    def _unless_returned(self, job_id: str, owner: str, settlement: Settlement) -> Settlement:
        """Give its call back where that is asked for; what is left of it to settle then are the charges."""
        why = settlement.returned
        if why is None:
            return settlement
        (back,) = self._script("calls_return", keys.job_keys(job_id), owner, why, settlement.call_id)
        return replace(settlement, result_json="") if back or not why else settlement

    def _count(self, job_id: str, settlements: Sequence[Settlement]) -> None:
        retries = sum(settlement.retries for settlement in settlements)
        refused = sum(settlement.rate_limited for settlement in settlements)
        hits = sum(settlement.cached for settlement in settlements)
        if retries or refused or hits:
            token = f"r{settlements[0].token}"
            counts = ("retries", retries, "rate_limited", refused, "cache_hits", hits)
            fenced(self._script("job_count", keys.job_keys(job_id), token, *counts), job_id)

    def answers(self, job_id: str, call_ids: Sequence[str]) -> list[str | None]:
        """The stored results, None where a call is not settled."""
        key = keys.job(job_id, "results")
        return list(self._reach(lambda: self._client.hmget(key, call_ids))) if call_ids else []

    def lost(self, job_id: str, call_ids: Sequence[str], pending_ms: int) -> list[str]:
        """Calls that nobody works on: unclaimed for ``pending_ms``, or with a lapsed lease.

        A call that is told counts as unclaimed from now on, so it is not told again at once.
        """
        return list(self._script("calls_lost", keys.job_keys(job_id), pending_ms, *call_ids))

    def replies(self, job_id: str, cursor: str, block_ms: int) -> list[SettledCall]:
        """The calls that were settled after a cursor, a stream id ("0" at first), some at a time."""
        streams = {keys.job(job_id, "replies"): cursor}
        block = min(block_ms, MAX_BLOCK_MS)
        found = self._reach(lambda: self._client.xread(streams, count=_READ_AT_ONCE, block=block))
        return [
            SettledCall(entry_id, fields["c"], fields.get("r"))
            for _, entries in found
            for entry_id, fields in entries
        ]


def _state(text: str) -> CallState | CallRefused:
    if not text.startswith("refused "):
        return CallState(text)
    _, kind, used, limit = text.split(" ")
    unit = NANO if kind.endswith("max_usd") else 1
    return CallRefused(kind, int(used) / unit, int(limit) / unit)


def _settle_args(settlement: Settlement) -> list[str | int]:
    failed = settlement.spend is None and not settlement.cached
    spends = [*([settlement.spend] if settlement.spend else []), *settlement.wasted]
    args: list[str | int] = [
        settlement.call_id,
        settlement.token,
        settlement.result_json,
        int(failed),
        len(spends),
    ]
    for spend in spends:
        args += [
            settlement.role,
            spend.model,
            spend.usage.input_tokens,
            spend.usage.cached_tokens,
            spend.usage.output_tokens,
            int(spend.usage.estimated),
            "" if spend.nanousd is None else spend.nanousd,
        ]
    return args
