"""The router of the method ``auto``: short inputs go straight to the model, the others through an RLM.

Its threshold is fitted on a pilot, whose items are not those of the run. Only lengths up to half of the
window are tried: what fills a window does not fit well.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

from rlm_dist.bench.quality_runs.methods import BASE, RLM
from rlm_dist.bench.quality_runs.rows import QualityRow
from rlm_dist.bench.quality_runs.tasks import OWN, TaskChoice
from rlm_dist.schema.base import Wire

PILOT_ITEMS = 5
_SEED_STEP = 1_000_003


class PilotLength(Wire):
    """What both methods reached in the pilot at one length: mean scores, and mean costs in USD."""

    tokens: int
    n: int
    base_score: float
    rlm_score: float
    base_cost: float | None
    rlm_cost: float | None


class Router(Wire):
    """Items of up to ``threshold`` tokens go to ``base``; ``usd`` is what the pilot cost."""

    threshold: int
    pilot: tuple[PilotLength, ...] = ()
    usd: float | None = 0.0
    own_items: bool = False

    def route(self, tokens: int) -> str:
        """The method for an input of this length."""
        return BASE if tokens <= self.threshold else RLM


def pilot_choice(choice: TaskChoice, window: int) -> TaskChoice | None:
    """The items of the pilot; None if no length fits well into the window.

    A user's own tasks have no second seed, so the pilot asks some of those of the run.
    """
    lengths = tuple(tokens for tokens in choice.tokens if tokens <= window // 2)
    own = choice.tasks == (OWN,)
    tasks = choice.tasks if lengths else tuple(task for task in choice.tasks if task == OWN)
    if not tasks or not (lengths or own):
        return None
    return choice.model_copy(
        update={
            "tasks": tasks,
            "tokens": lengths,
            "items": min(choice.items, PILOT_ITEMS),
            "seed": choice.seed + _SEED_STEP,
        }
    )


def fit(rows: Sequence[QualityRow], window: int, *, own_items: bool = False) -> Router:
    """The threshold with the best score over all items of the pilot; of equal ones the cheapest.

    The cost is money, or tokens if a price is unknown.
    """
    lengths = sorted({row.tokens for row in rows if row.tokens <= window // 2})
    by_method = {name: [row for row in rows if row.method == name] for name in (BASE, RLM)}
    priced = all(row.cost is not None for row in rows)

    def rank(threshold: int) -> tuple[float, float]:
        chosen = [
            row
            for name, of_method in by_method.items()
            for row in of_method
            if (row.tokens <= threshold) == (name == BASE)
        ]
        paid = sum((row.cost or 0.0) if priced else row.used_tokens for row in chosen)
        return round(sum(row.score for row in chosen), 9), -paid

    best = max([0, *lengths], key=rank)
    return Router(
        threshold=best,
        pilot=tuple(_length(tokens, by_method) for tokens in lengths),
        usd=sum(row.cost or 0.0 for row in rows) if priced else None,
        own_items=own_items,
    )


def _length(tokens: int, by_method: dict[str, list[QualityRow]]) -> PilotLength:
    base, rlm = ([row for row in by_method[name] if row.tokens == tokens] for name in (BASE, RLM))
    return PilotLength(
        tokens=tokens,
        n=len(base),
        base_score=fmean([row.score for row in base] or [0.0]),
        rlm_score=fmean([row.score for row in rlm] or [0.0]),
        base_cost=_mean_cost(base),
        rlm_cost=_mean_cost(rlm),
    )


def _mean_cost(rows: Sequence[QualityRow]) -> float | None:
    costs = [row.cost for row in rows if row.cost is not None]
    return fmean(costs) if costs and len(costs) == len(rows) else None


def router_lines(router: Router) -> Iterator[str]:
    """The threshold and the pilot, as text."""
    paid = "cost unknown" if router.usd is None else f"${router.usd:.4f}"
    yield f"auto: base up to {router.threshold:,} tokens, rlm above; from a pilot of {paid}"
    if router.own_items:
        yield "  the pilot asked items of this run, so the score of auto is a little too good"
    for at in router.pilot:
        scores = f"base {at.base_score:.2f}, rlm {at.rlm_score:.2f}"
        yield f"  pilot at {at.tokens:,} tokens, n = {at.n}: {scores}"
