"""What a call costs, before it is made and after: tokens and nano-dollars."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import PAUSING, BlobError, CallError, FailureKind, LimitExceeded, RLMError
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import FLEX, CallFailure, CallRequest, CallResult, Charge, Completion, Role, Usage
from rlm_dist.store import Settlement, Spend
from rlm_dist.store.calls import MOST_NANOUSD, MOST_TOKENS

# Called with each call that ended: its request, result and settlement, and the model that was asked.
OnEnd = Callable[[CallRequest, CallResult, Settlement, str], None]


def end_of_call(
    call_id: str,
    request: CallRequest,
    result: CallResult,
    *,
    job_id: str,
    payloads: Payloads,
    accounts: "Accounts",
) -> tuple[CallResult, Settlement]:
    """The last step of a call: its result and settlement. A result that cannot be stored fails the call."""
    try:
        packed = payloads.pack(job_id, result.model_dump_json())
    except (BlobError, LimitExceeded, ValueError) as error:  # ValueError: it cannot be written as JSON
        result = _unstorable(result, error)
        packed = result.model_copy(update={"wasted": ()}).model_dump_json()
    return result, accounts.settlement(call_id, request, result, packed)


def _unstorable(result: CallResult, error: RLMError | ValueError) -> CallResult:
    """The failure that replaces a result which cannot be stored; its cost is still counted."""
    charges = (_charge(result.completion),) if result.completion else ()
    kind = FailureKind.LIMIT if isinstance(error, LimitExceeded) else FailureKind.INVALID
    # The text of a ValueError could be a part of the answer.
    why = "it is not valid text" if isinstance(error, ValueError) else str(error)
    failure = CallFailure(kind=kind, message=f"the answer cannot be stored: {why}")
    return result.model_copy(
        update={"completion": None, "failure": failure, "wasted": (*result.wasted, *charges)}
    )


def _pause_reason(failure: CallFailure | None) -> str | None:
    """Why the batch has to be paused before this call is made again; '' if the call was just not made."""
    if failure is None or failure.kind not in {*PAUSING, FailureKind.RETURNED}:
        return None
    return failure.message if failure.kind in PAUSING else ""


def _charge(completion: Completion) -> Charge:
    return Charge(model=completion.model, usage=completion.usage, endpoint=completion.endpoint)


def _is_truncated(role: Role, completion: Completion | None) -> bool:
    """Whether a sub-call's answer was cut off at the output limit."""
    return role is Role.SUB and completion is not None and completion.truncated


def _paid_tier(request: CallRequest, charge: Charge) -> str | None:
    """The tier that the endpoint reported. If it reported none, that of the request, but no discount."""
    return charge.usage.tier or (None if request.asked_tier == FLEX else request.asked_tier)


def _bookable(usage: Usage, request: CallRequest) -> Usage:
    """The usage, without numbers that no ledger can hold: they count as not reported."""
    counts = [value for name, value in usage if name.endswith("_tokens")]
    if not all(0 <= count <= MOST_TOKENS for count in counts):
        known = {"tier": usage.tier, "billed_nanousd": usage.billed_nanousd}
        usage = request.expected.model_copy(update={**known, "estimated": True})
    billed = usage.billed_nanousd
    if billed is not None and not 0 <= billed <= MOST_NANOUSD:
        usage = usage.model_copy(update={"billed_nanousd": None})
    return usage


def _first(prices: Iterable[int | None]) -> int | None:
    return next((price for price in prices if price is not None), None)


class Accounts:
    """Turns requests and results into tokens and nano-dollars."""

    def __init__(
        self,
        *,
        prices: Prices,
        endpoints: Mapping[Role, Sequence[Endpoint]],
        resolve: Callable[[Role, str], str],
        on_end: OnEnd | None = None,
    ) -> None:
        """``resolve`` returns the model that serves a role's call for a name; it may raise CallError."""
        self._prices = prices
        self._endpoints = endpoints
        self._resolve = resolve
        self._on_end = on_end
        self._models: dict[Role, str] = {}  # what ``auto`` stands for, once known
        # The roles of which an endpoint served a flex call and named no tier.
        self._unconfirmed: set[Role] = set()

    def reserve(self, request: CallRequest, usage: Usage | None = None) -> tuple[int, int | None]:
        """Tokens and nano-dollars to reserve before the call; None if its price is unknown.

        ``usage`` replaces the estimate from the request. If there are several endpoints, the most expensive
        counts. A flex call reserves the default price once an endpoint has served one without naming the
        tier, as such a call is paid at that price.
        """
        usage = usage or request.expected
        if usage.tier == FLEX and request.role in self._unconfirmed:
            usage = usage.model_copy(update={"tier": None})
        try:
            model = self._model(request.role, request.model)
        except CallError:  # the endpoint does not list its models; the call itself will report this
            return usage.total, 0
        endpoints = self._endpoints[request.role]
        prices = [self._prices.nanousd(endpoint.named(model), usage, endpoint.url) for endpoint in endpoints]
        amounts = [price for price in prices if price is not None]
        return usage.total, max(amounts) if len(amounts) == len(prices) else None

    def note_tier(self, role: Role, asked: str | None, served: str | None) -> None:
        """Learn from a call that was served which tier its endpoint named, if any."""
        if asked == FLEX and served is None:
            self._unconfirmed.add(role)

    def resolve(self, role: Role, name: str) -> str:
        """The model that serves a role's calls for a name; the name itself if its endpoint cannot tell."""
        try:
            return self._model(role, name)
        except CallError:
            return name

    def resolved(self, role: Role, name: str) -> str:
        """The model that serves a role's calls for a name; the name itself while that is unknown."""
        return self._models.get(role, name) if name == "auto" else name

    def settlement(self, call_id: str, request: CallRequest, result: CallResult, packed: str) -> Settlement:
        """The ledger's record of a call that ended; ``packed`` is the stored form of ``result``."""
        completion = None if result.cached else result.completion
        settlement = Settlement(
            call_id=call_id,
            role=request.role,
            result_json=packed,
            spend=self._spend(request, _charge(completion)) if completion else None,
            wasted=tuple(self._spend(request, charge) for charge in result.wasted),
            returned=_pause_reason(result.failure),
            failure=result.failure.kind if result.failure else None,
            cached=result.cached,
            truncated=_is_truncated(request.role, result.completion),
            retries=max(0, result.attempts - 1),
            rate_limited=result.failed_attempts.count(FailureKind.RATE),
        )
        if self._on_end is not None:
            self._on_end(request, result, settlement, self.resolved(request.role, request.model))
        return settlement

    def _spend(self, request: CallRequest, charge: Charge) -> Spend:
        """The charge by the user's prices, or as the endpoint billed it, or by the published prices.

        The price is that of the model that answered, or else of the model requested.
        """
        self.note_tier(request.role, request.asked_tier, charge.usage.tier)
        url = charge.endpoint or self._endpoints[request.role][0].url
        names = (charge.model, self.resolved(request.role, request.model))
        usage = _bookable(charge.usage, request).model_copy(update={"tier": _paid_tier(request, charge)})
        own = _first(self._prices.own_nanousd(name, usage) for name in names)
        if own is None and usage.billed_nanousd is not None:
            return Spend(charge.model, usage, usage.billed_nanousd, billed=True)
        published = (self._prices.published_nanousd(name, usage, url) for name in names)
        nanousd = _first(published) if own is None else own
        return Spend(charge.model, usage, None if nanousd is None else min(nanousd, MOST_NANOUSD))

    def _model(self, role: Role, name: str) -> str:
        if name != "auto":
            return name
        if role not in self._models:
            self._models[role] = self._resolve(role, name)
        return self._models[role]
