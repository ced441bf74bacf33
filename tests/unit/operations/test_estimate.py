"""A dry run knows the price of the tier that a batch asks for."""

from pathlib import Path
from typing import Any

import pytest

from rlm_dist.client.batch_item import read_item
from rlm_dist.client.options import JobOptions
from rlm_dist.operations.estimate import Estimate, estimate
from rlm_dist.settings import Settings


def told(settings: dict[str, Any] | None = None, options: dict[str, Any] | None = None) -> Estimate:
    """The estimate of a batch of one job for OpenAI's gpt-5."""
    item = read_item({"id": "a", "query": "q", "context": "x" * 40_000}, Path())
    basis = {"api_url": "https://api.openai.com/v1", "model": "gpt-5", "sub_model": "gpt-5"}
    return estimate([item], JobOptions(**(options or {})), Settings(**{**basis, **(settings or {})}))


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"tier": "flex"}, {}),
        ({}, {"tier": "flex"}),
        ({"tier": "priority"}, {"tier": "flex"}),
        ({"extra_body": {"service_tier": "flex"}, "sub_extra_body": {"service_tier": "flex"}}, {}),
    ],
)
def test_the_price_is_that_of_the_tier(settings: dict[str, Any], options: dict[str, Any]) -> None:
    default, flex = told(), told(settings, options)
    assert default.floor_usd
    assert flex.floor_usd == pytest.approx(default.floor_usd / 2)
    assert default.reading_usd == 10_000 * 1.25e-6  # 1.25 USD a million tokens
    assert flex.reading_usd == pytest.approx(10_000 * 0.625e-6)


def test_the_sub_model_may_have_its_own_tier() -> None:
    default, told_sub = told(), told(options={"sub_tier": "flex"})
    assert told_sub.floor_usd == default.floor_usd
    assert told_sub.reading_usd == pytest.approx(10_000 * 0.625e-6)
