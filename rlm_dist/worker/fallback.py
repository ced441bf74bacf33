"""Lets a call go from the flex tier to the default one, which costs more than was reserved for it."""

from collections.abc import Callable

from rlm_dist.schema import DEFAULT_TIER, FLEX, CallRequest
from rlm_dist.store import CallStore
from rlm_dist.worker.accounts import Accounts


def fallback(
    job_id: str, call_id: str, owner: str, request: CallRequest, *, calls: CallStore, accounts: Accounts
) -> Callable[[], bool] | None:
    """A function that reserves the price of the default tier, if the budgets have room, and says whether.

    None if the call does not ask for the flex tier. ``owner`` is the call's holder, ``root`` for a root call.
    """
    if request.asked_tier != FLEX:
        return None

    def reserve() -> bool:
        _, nanousd = accounts.reserve(request.model_copy(update={"tier": DEFAULT_TIER}))
        return calls.reserve_more(job_id, call_id, owner, nanousd)

    return reserve
