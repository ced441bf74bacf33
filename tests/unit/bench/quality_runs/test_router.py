"""The router's threshold: the best score over the pilot, then the least cost."""

import pytest

from rlm_dist.bench.quality_runs.router import PILOT_ITEMS, Router, fit, pilot_choice, router_lines
from rlm_dist.bench.quality_runs.rows import QualityRow
from rlm_dist.bench.quality_runs.tasks import TaskChoice
from tests.unit.bench.quality_runs.run_values import row

WINDOW = 32_000


def pilot(*lengths: tuple[int, float, float], base_cost: float | None = 0.1) -> list[QualityRow]:
    """Rows of both methods at each length, with these scores; rlm costs 0.2."""
    rows = []
    for tokens, base, rlm in lengths:
        rows += [
            row(f"{tokens}", "base", base, tokens=tokens, cost=base_cost, sub_input_tokens=900),
            row(f"{tokens}", "rlm", rlm, tokens=tokens, cost=0.2, sub_input_tokens=100),
        ]
    return rows


@pytest.mark.parametrize(
    ("lengths", "threshold"),
    [
        ([(1_000, 1.0, 1.0), (8_000, 1.0, 1.0), (16_000, 0.0, 1.0)], 8_000),  # equal scores: the cheaper one
        ([(1_000, 0.0, 1.0), (8_000, 0.0, 1.0)], 0),
        ([(1_000, 1.0, 0.0), (8_000, 1.0, 0.0)], 8_000),
        ([(1_000, 0.9, 1.0), (8_000, 1.0, 0.5)], 8_000),  # 1.9 in all, against 1.5 and 1.4
        ([], 0),
    ],
)
def test_the_threshold_has_the_best_score_and_then_the_least_cost(
    lengths: list[tuple[int, float, float]], threshold: int
) -> None:
    assert fit(pilot(*lengths), WINDOW).threshold == threshold


def test_of_equal_scores_without_prices_the_one_with_fewer_tokens_is_taken() -> None:
    assert fit(pilot((1_000, 1.0, 1.0), base_cost=None), WINDOW).threshold == 0
    assert fit(pilot((1_000, 1.0, 1.0)), WINDOW).threshold == 1_000


def test_what_fills_more_than_half_of_the_window_never_goes_to_the_base_model() -> None:
    router = fit(pilot((1_000, 1.0, 0.0), (20_000, 1.0, 0.0)), WINDOW)
    assert router.threshold == 1_000
    assert [at.tokens for at in router.pilot] == [1_000]
    assert (router.route(1_000), router.route(1_001)) == ("base", "rlm")


def test_the_pilot_says_scores_costs_and_its_price() -> None:
    router = fit(pilot((1_000, 1.0, 0.5)), WINDOW)
    (at,) = router.pilot
    assert (at.n, at.base_score, at.rlm_score, at.base_cost, at.rlm_cost) == (1, 1.0, 0.5, 0.1, 0.2)
    assert router.usd == pytest.approx(0.3)
    lines = list(router_lines(router))
    assert "base up to 1,000 tokens" in lines[0]
    assert "n = 1: base 1.00, rlm 0.50" in lines[1]


def test_the_pilot_asks_a_few_items_of_another_seed_that_fit_well() -> None:
    choice = TaskChoice(tasks=("needles",), tokens=(1_000, 16_000, 64_000), items=50, seed=7)
    found = pilot_choice(choice, WINDOW)
    assert found is not None
    assert (found.tokens, found.items) == ((1_000, 16_000), PILOT_ITEMS)
    assert found.seed != choice.seed
    assert pilot_choice(choice.model_copy(update={"tokens": (64_000,)}), WINDOW) is None
    own = pilot_choice(TaskChoice(tasks=("own",), items=50), WINDOW)
    assert own is not None
    assert own.tasks == ("own",)


def test_without_a_pilot_all_goes_to_the_rlm() -> None:
    assert Router(threshold=0).route(1) == "rlm"
