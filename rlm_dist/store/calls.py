"""Model calls of jobs: opened under a budget, claimed under a lease, settled once.

A call id is unique within its job. The ledger counts a settlement once, whatever is repeated.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from rlm_dist.errors import FailureKind, LimitExceeded, RLMError, UnknownPrice
from rlm_dist.schema import NANO, CallFailure, CallResult, Role, Usage
from rlm_dist.store import keys
from rlm_dist.store.connection import MAX_BLOCK_MS, StorePart, fenced, new_token, within_budget
from rlm_dist.store.journals import NO_ENTRIES, Entries
from rlm_dist.store.ledger import charge_label

MAX_LAPSES = 3
# What one call may use, as ``lua/prelude_bookable.lua`` has it.
MOST_TOKENS = 10**9
MOST_NANOUSD = 4 * 10**15
_MOST_RESERVED_NANOUSD = 10**13
_EXACT_SUM = 2**53
_MODEL_CHARS = 200
_UNPRICED = "unpriced"
_OPEN_AT_ONCE = 500
_SETTLE_AT_ONCE = 200
_READ_AT_ONCE = 500


@dataclass(frozen=True)
class OpenCall:
    """A call to open; ``request`` is stored as it is, and handed to the worker that claims the call.

    ``reserve_nanousd`` is None if the price is unknown. A sub-call that is made ``ahead`` of the code that
    asks for it must leave a quarter of each budget free.
    """

    call_id: str
    request: str
    reserve_tokens: int
    reserve_nanousd: int | None
    role: Role = Role.SUB
    ahead: bool = False


class CallState(StrEnum):
    """The state of an opened call: opened just now, opened before, or answered."""

    NEW = "new"
    PENDING = "pending"
    SETTLED = "settled"


class SettledCall(NamedTuple):
    """A call that was settled: its id, and its stored result if that is short."""

    cursor: str
    call_id: str
    packed: str | None


class UnwantedCalls(NamedTuple):
    """Jobs whose calls are to be given up: all if ``cancelled``, those not begun if it ends or ``ended``."""

    cancelled: set[str]
    ended: set[str]


@dataclass(frozen=True)
class CallRefused:
    """A call that was not opened: ``used`` of ``limit`` is spent or reserved, and it needs about ``needed``.

    Budgets of money are in USD. ``needed`` is 0 if single calls are counted. The ``kind`` is ``unpriced`` if
    there is a budget of money but the price of the call is unknown.
    """

    kind: str
    used: float
    limit: float
    needed: float = 0

    def error(self, model: str) -> RLMError:
        """The error that says why this call to ``model`` was refused."""
        if self.kind == _UNPRICED:
            return UnknownPrice(model)
        return LimitExceeded(self.kind, self.used, self.limit, self.needed)


@dataclass(frozen=True)
class Spend:
    """One attempt that the endpoint charged for; ``nanousd`` is None if the price is unknown.

    ``usage`` has the tier that the money is for. ``billed`` says that the endpoint itself named the money.
    """

    model: str
    usage: Usage
    nanousd: int | None
    billed: bool = False


@dataclass(frozen=True)
class Settlement:
    """The end of a call: its stored result and what was paid.

    - ``result_json`` is empty if there is no result and only the charges count, as after an aborted call.
    - ``spend`` is None if the call failed; ``wasted`` are other attempts that were charged.
    - ``returned``, if not None, gives the call back instead, so that it is made again. Its text says why the
      batch is to be paused, '' if it is not; with a text but no batch, the result counts.
    - ``cached`` says that the answer is another call's and cost nothing.
    - ``truncated`` says that it is a sub-call's answer and was cut off at the output limit.
    - ``retries`` and ``rate_limited`` go into the counters of those names.
    - ``failure`` is the kind of its failure, for the log.
    - ``token`` makes it safe to settle the same object again. Two settlements with different tokens are two
      payments for one call.
    """

    call_id: str
    role: Role
    result_json: str
    spend: Spend | None
    wasted: Sequence[Spend] = ()
    returned: str | None = None
    cached: bool = False
    truncated: bool = False
    retries: int = 0
    rate_limited: int = 0
    failure: str | None = None
    token: str = field(default_factory=new_token)


_POISON = CallResult(
    failure=CallFailure(
        kind=FailureKind.INVALID,
        message=f"its worker died during the call more than {MAX_LAPSES} times; it is not tried again",
    ),
    attempts=0,
).model_dump_json()


_NOT_BOOKABLE = CallResult(
    failure=CallFailure(
        kind=FailureKind.INVALID, message="the endpoint reported a use that no ledger can hold"
    ),
).model_dump_json()


def reservation(state: str) -> tuple[int, int] | None:
    """The nano-dollars and tokens reserved for a call, from its stored state; None if it has ended.

    ``lua/prelude_calls.lua`` has the format of the state.
    """
    kind, _, nanousd, tokens, *_ = state.split(" ")
    return (int(nanousd), int(tokens)) if kind in ("p", "c") else None


class CallStore(StorePart):
    """The part of the store for calls."""

    def open(
        self, job_id: str, epoch: int, calls: Sequence[OpenCall], entries: Entries = NO_ENTRIES
    ) -> list[CallState | CallRefused]:
        """Store new calls and reserve their budget, in order; root calls do not count as sub-calls.

        ``entries`` are appended to the journal before, if this epoch holds the job.

        Raises:
            Superseded, Cancelled, Parked: if this epoch may not make calls any more.
            LimitExceeded: if the job has no room for the entries.
        """
        states: list[CallState | CallRefused] = []
        for start in range(0, len(calls), _OPEN_AT_ONCE):
            args: list[str | int] = [epoch, *(NO_ENTRIES if start else entries).args]
            for call in calls[start : start + _OPEN_AT_ONCE]:
                money = (
                    "" if call.reserve_nanousd is None else min(call.reserve_nanousd, _MOST_RESERVED_NANOUSD)
                )
                tokens = min(call.reserve_tokens, MOST_TOKENS)
                role = "ahead" if call.ahead else call.role
                args += [call.call_id, role, call.request, money, tokens]
            reply = fenced(self._script("calls_open", keys.job_keys(job_id), *args), job_id, epoch)
            states += [_state(text) for text in within_budget(reply)]
        return states

    def keep(
        self, job_id: str, epoch: int, *, tokens: int, nanousd: int | None, partly: bool = False
    ) -> CallRefused | None:
        """Keep a part of the budgets for the next root calls, in place of what is kept for them now.

        Only budgets that exist are reduced; ``nanousd`` is None if the price is unknown. If not all of it
        fits, what fits is kept if ``partly``, else nothing changes and the result says which budget is short.

        Raises:
            Superseded: if the job has ended, or another worker holds it.
        """
        args: list[str | int] = [epoch, nanousd or 0, tokens, "1" if partly else ""]
        reply = fenced(self._script("calls_keep", keys.job_keys(job_id), *args), job_id, epoch)
        return None if reply == "kept" else read_refusal(reply)

    def stop(self, job_id: str, epoch: int) -> int:
        """Let no further call of a job be begun, as it is about to end; return how many are in flight.

        Raises:
            Superseded: if the job has ended, or another worker holds it.
        """
        return int(fenced(self._script("calls_stop", keys.job_keys(job_id), epoch), job_id, epoch))

    def claim(self, job_id: str, call_ids: Sequence[str], owner: str, lease_ms: int) -> list[str | None]:
        """Claim calls; return the stored request of each call that was won, and None for each other.

        A call whose workers died during it more than ``MAX_LAPSES`` times is ended as failed.
        """
        args: list[str | int] = [owner, lease_ms, new_token(), MAX_LAPSES, _POISON, *call_ids]
        return list(self._script("calls_claim", keys.job_keys(job_id), *args))

    def renew(self, owner: str, calls: Mapping[str, Sequence[str]], lease_ms: int) -> UnwantedCalls:
        """Renew the leases of this worker's calls, by job; return the jobs that no longer want theirs."""
        requests: list[tuple[list[str], list[str | int]]] = [
            (keys.job_keys(job_id), [owner, lease_ms, *ids]) for job_id, ids in calls.items()
        ]
        replies = self._scripts_at_once("calls_renew", requests)
        pairs = list(zip(calls, replies, strict=True))
        return UnwantedCalls(
            {job for job, reply in pairs if reply == 0}, {job for job, reply in pairs if reply == 2}
        )

    def reserve_more(self, job_id: str, call_id: str, owner: str, nanousd: int | None) -> bool:
        """Reserve this much money for a call that ``owner`` holds, if the budgets have room for it.

        None is an unknown price, which no budget of money allows. The holder of a root call is ``root``.
        """
        args = (call_id, owner, "" if nanousd is None else nanousd)
        return bool(self._script("calls_reserve", keys.job_keys(job_id), *args))

    def settle(self, job_id: str, owner: str, settlements: Sequence[Settlement]) -> list[bool]:
        """End calls and count what was paid; True for each whose result is now the call's answer.

        Raises:
            NotFound: if the job's retention is over.
        """
        firsts: list[bool] = []
        remainders = [self._unless_returned(job_id, owner, settlement) for settlement in settlements]
        for group in _groups(remainders):
            firsts += self._book(job_id, owner, group)
        self._count(job_id, remainders, firsts)
        return firsts

    def _book(self, job_id: str, owner: str, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle calls in one script; one that cannot be booked fails alone, without its charges."""
        args: list[str | int] = [owner]
        for settlement in settlements:
            args += _settle_args(settlement)
        reply = fenced(self._script("calls_settle", keys.job_keys(job_id), *args), job_id)
        if reply != "BAD":
            return [bool(first) for first in reply]
        if len(settlements) > 1:
            return [first for one in settlements for first in self._book(job_id, owner, [one])]
        (bad,) = settlements
        _log().error("call_not_bookable", job=job_id, call=bad.call_id)
        return self._book(job_id, owner, [replace(bad, result_json=_NOT_BOOKABLE, spend=None, wasted=())])

    def _unless_returned(self, job_id: str, owner: str, settlement: Settlement) -> Settlement:
        """Give the call back if the settlement says so; then only its charges remain to be settled."""
        pause_reason = settlement.returned
        if pause_reason is None:
            return settlement
        args = (owner, pause_reason, settlement.call_id)
        paused, given_back = self._script("calls_return", keys.job_keys(job_id), *args)
        if paused:
            batch_id = paused.removeprefix(keys.batch(""))
            _log().warning(
                "batch_paused", batch=batch_id, job=job_id, call=settlement.call_id, why=settlement.failure
            )
        return replace(settlement, result_json="") if given_back or not pause_reason else settlement

    def _count(self, job_id: str, settlements: Sequence[Settlement], firsts: Sequence[bool]) -> None:
        retries = sum(settlement.retries for settlement in settlements)
        refused = sum(settlement.rate_limited for settlement in settlements)
        hits = sum(settlement.cached for settlement in settlements)
        cut = sum(first and item.truncated for first, item in zip(firsts, settlements, strict=True))
        if retries or refused or hits or cut:
            token = f"r{settlements[0].token}"
            counts = (
                "retries", retries, "rate_limited", refused, "cache_hits", hits, "truncated_calls", cut,
            )  # fmt: skip
            fenced(self._script("job_count", keys.job_keys(job_id), token, *counts), job_id)

    def answers(self, job_id: str, call_ids: Sequence[str]) -> list[str | None]:
        """The stored results; None for each call that is not settled."""
        key = keys.job(job_id, "results")
        return list(self._reach(lambda: self._client.hmget(key, call_ids))) if call_ids else []

    def lost(self, job_id: str, call_ids: Sequence[str], pending_ms: int) -> list[str]:
        """Calls that nobody works on: unclaimed for ``pending_ms``, or with a lapsed lease.

        Returning a call restarts its unclaimed timer, so it is not returned again immediately.
        """
        return list(self._script("calls_lost", keys.job_keys(job_id), pending_ms, *call_ids))

    def replies(self, job_id: str, cursor: str, block_ms: int) -> list[SettledCall]:
        """The next calls settled after a stream id ("0" at first); waits for one for ``block_ms``."""
        cursors = {keys.job(job_id, "replies"): cursor}
        block = min(block_ms, MAX_BLOCK_MS)
        streams = self._reach(lambda: self._client.xread(cursors, count=_READ_AT_ONCE, block=block))
        return [
            SettledCall(entry_id, fields["c"], fields.get("r"))
            for _, entries in streams
            for entry_id, fields in entries
        ]


def _state(text: str) -> CallState | CallRefused:
    return read_refusal(text) if text.startswith("refused ") else CallState(text)


def read_refusal(text: str) -> CallRefused:
    """The refusal in the reply of a script."""
    _, kind, *amounts = text.split(" ")
    unit = NANO if kind.endswith("max_usd") else 1
    return CallRefused(kind, *(int(amount) / unit for amount in amounts))


def _groups(settlements: Iterable[Settlement]) -> Iterator[list[Settlement]]:
    """The settlements in order, in groups that one script books: few enough, and of a sum that is exact."""
    group: list[Settlement] = []
    sum_nanousd = 0
    for settlement in settlements:
        nanousd = sum(spend.nanousd or 0 for spend in _spends(settlement))
        if group and (len(group) == _SETTLE_AT_ONCE or sum_nanousd + nanousd > _EXACT_SUM):
            yield group
            group, sum_nanousd = [], 0
        group.append(settlement)
        sum_nanousd += nanousd
    if group:
        yield group


def _spends(settlement: Settlement) -> list[Spend]:
    return [*([settlement.spend] if settlement.spend else []), *settlement.wasted]


def _settle_args(settlement: Settlement) -> list[str | int]:
    failed = settlement.spend is None and not settlement.cached
    spends = _spends(settlement)
    args: list[str | int] = [
        settlement.call_id,
        settlement.token,
        settlement.result_json,
        int(failed),
        len(spends),
    ]
    for spend in spends:
        args += [
            charge_label(settlement.role, spend.usage, billed=spend.billed),
            spend.model[:_MODEL_CHARS],
            spend.usage.input_tokens,
            spend.usage.cached_tokens,
            spend.usage.output_tokens,
            int(spend.usage.estimated),
            "" if spend.nanousd is None else spend.nanousd,
        ]
    return args


def _log() -> Any:
    import structlog  # noqa: PLC0415  # half of what the store would load, and only workers write logs

    return structlog.get_logger()
