"""What a call is worth before and after it was made: tokens and nano-dollars."""

from collections.abc import Callable, Mapping, Sequence

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import PAUSING, BlobError, CallError, FailureKind
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import CallFailure, CallRequest, CallResult, Charge, Completion, Role
from rlm_dist.store import Settlement, Spend


def end_of_call(
    call_id: str,
    request: CallRequest,
    result: CallResult,
    *,
    job_id: str,
    payloads: Payloads,
    accounts: "Accounts",
) -> tuple[CallResult, Settlement]:
    """The last step of a call: result and settlement. A result that cannot be stored fails the call."""
    try:
        packed = payloads.pack(job_id, result.model_dump_json())
    except BlobError as error:
        result = _unstorable(result, error)
        packed = result.model_dump_json()
    return result, accounts.settlement(call_id, request, result, packed)


def _unstorable(result: CallResult, error: BlobError) -> CallResult:
    """The failure that a call is settled with whose result cannot be stored; what it cost is counted."""
    done = result.completion
    paid = (_charge(done),) if done else ()
    failure = CallFailure(kind=FailureKind.INVALID, message=f"the answer cannot be stored: {error}")
    return result.model_copy(
        update={"completion": None, "failure": failure, "wasted": (*result.wasted, *paid)}
    )


def _returned(failure: CallFailure | None) -> str | None:
    """Why the batch is to be paused before this call is made again; '' where it just was not made."""
    if failure is None or failure.kind not in {*PAUSING, FailureKind.RETURNED}:
        return None
    return failure.message if failure.kind in PAUSING else ""


def _charge(done: Completion) -> Charge:
    return Charge(model=done.model, usage=done.usage, endpoint=done.endpoint)


class Accounts:
    """Turns requests and results into tokens and nano-dollars."""

    def __init__(
        self,
        *,
        prices: Prices,
        endpoints: Mapping[Role, Sequence[Endpoint]],
        resolve: Callable[[Role, str], str],
    ) -> None:
        """``resolve`` tells which model a role's call for a name goes to; it may raise CallError."""
        self._prices = prices
        self._endpoints = endpoints
        self._resolve = resolve
        self._resolved: dict[tuple[Role, str], str] = {}

    def reserve(self, request: CallRequest) -> tuple[int, int | None]:
        """Tokens and nano-dollars to set aside before the call; None where its price is unknown.

        Of several endpoints, the dearest counts.
        """
        usage = request.expected
        try:
            model = self._model(request)
        except CallError:  # the endpoint cannot be asked, which the call itself will tell in its own way
            return usage.total, 0
        endpoints = self._endpoints[request.role]
        prices = [self._prices.nanousd(each.named(model), usage, each.url) for each in endpoints]
        known = [price for price in prices if price is not None]
        return usage.total, max(known) if len(known) == len(prices) else None

    def resolved(self, role: Role, name: str) -> str:
        """The model that calls of a role for a name go to, as far as that is known."""
        return self._resolved.get((role, name), name)

    def settlement(self, call_id: str, request: CallRequest, result: CallResult, packed: str) -> Settlement:
        """What the ledger is told of a call that ended; ``packed`` is the stored form of ``result``."""
        done = None if result.cached else result.completion
        return Settlement(
            call_id=call_id,
            role=request.role,
            result_json=packed,
            spend=self._spend(request, _charge(done)) if done else None,
            wasted=tuple(self._spend(request, charge) for charge in result.wasted),
            returned=_returned(result.failure),
            cached=result.cached,
            retries=max(0, result.attempts - 1),
            rate_limited=result.failed_attempts.count(FailureKind.RATE),
        )

    def _spend(self, request: CallRequest, charge: Charge) -> Spend:
        """At the price of the model that answered, or else of the one that was asked."""
        url = charge.endpoint or self._endpoints[request.role][0].url
        names = (charge.model, self.resolved(request.role, request.model))
        prices = (self._prices.nanousd(name, charge.usage, url) for name in names)
        nanousd = next((price for price in prices if price is not None), None)
        return Spend(model=charge.model, usage=charge.usage, nanousd=nanousd)

    def _model(self, request: CallRequest) -> str:
        asked = (request.role, request.model)
        if asked not in self._resolved:
            self._resolved[asked] = self._resolve(*asked) if request.model == "auto" else request.model
        return self._resolved[asked]
