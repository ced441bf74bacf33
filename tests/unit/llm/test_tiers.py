"""A call costs what the tier costs that served it; what the endpoint billed wins over a published price."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import Usage

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"
GROQ = "https://api.groq.com/openai/v1"
LOCAL = "http://localhost:8080/v1"


def used(**fields: Any) -> Usage:
    """1000 tokens in, 400 of them cached, and 100 out."""
    return Usage(input_tokens=1000, cached_tokens=400, output_tokens=100, **fields)


# USD per million tokens, as OpenAI lists them for gpt-5: input, cached input, output.
GPT_5 = {
    None: ("1.25", "0.125", "10"),
    "default": ("1.25", "0.125", "10"),
    "flex": ("0.625", "0.0625", "5"),
    "priority": ("2.5", "0.25", "20"),
    "batch": ("0.625", "0.0625", "5"),
}


@pytest.mark.parametrize("tier", GPT_5)
def test_a_published_price_is_that_of_the_tier(tier: str | None) -> None:
    inputs, cached, outputs = map(Decimal, GPT_5[tier])
    expected = (600 * inputs + 400 * cached + 100 * outputs) * 1000  # in nano-dollars
    assert Prices(None).nanousd("gpt-5", used(tier=tier), OPENAI) == expected


@pytest.mark.parametrize(("model", "tier"), [("gpt-5", "scale"), ("gpt-5-pro", "flex"), ("gpt-5", "other")])
def test_the_price_of_a_tier_that_is_not_listed_is_unknown(model: str, tier: str) -> None:
    assert Prices(None).nanousd(model, used(), OPENAI) is not None
    assert Prices(None).nanousd(model, used(tier=tier), OPENAI) is None


def test_groqs_flex_tier_has_the_default_price() -> None:
    prices = Prices(None)
    default = prices.nanousd("llama-3.3-70b-versatile", used(), GROQ)
    assert default
    assert prices.nanousd("llama-3.3-70b-versatile", used(tier="flex"), GROQ) == default
    assert prices.nanousd("llama-3.3-70b-versatile", used(tier="performance"), GROQ) is None


def test_tokens_written_to_the_cache_have_their_own_price() -> None:
    # claude-sonnet-4-5: 3 USD in, 0.30 read from the cache, 3.75 written to it, 15 out, per million tokens.
    usage = used(cache_write_tokens=500)
    expected = 100 * 3000 + 400 * 300 + 500 * 3750 + 100 * 15_000
    assert Prices(None).nanousd("claude-sonnet-4-5", usage, ANTHROPIC) == expected


def test_a_model_without_a_price_for_writes_takes_them_as_input() -> None:
    prices = Prices(None)
    assert prices.nanousd("gpt-5", used(cache_write_tokens=500), OPENAI) == prices.nanousd(
        "gpt-5", used(), OPENAI
    )


def test_audio_has_its_own_price_where_there_is_one() -> None:
    # gpt-audio: 2.50 USD for text in, 32 for audio in, 10 for text out, 64 for audio out.
    usage = Usage(input_tokens=1000, input_audio_tokens=300, output_tokens=100, output_audio_tokens=60)
    expected = 700 * 2500 + 300 * 32_000 + 40 * 10_000 + 60 * 64_000
    assert Prices(None).nanousd("gpt-audio", usage, OPENAI) == expected


def test_audio_beside_cached_input_has_a_price_too() -> None:
    # gemini-2.5-flash: 0.30 USD for text in, 0.03 cached, 1.00 for audio in, per million tokens.
    usage = Usage(input_tokens=1000, cached_tokens=400, input_audio_tokens=500)
    assert Prices(None).nanousd("gemini-2.5-flash", usage, GOOGLE) == 100 * 300 + 400 * 30 + 500 * 1000


def test_reasoning_is_a_part_of_the_output() -> None:
    prices = Prices(None)
    assert prices.nanousd("gpt-5", used(reasoning_tokens=90), OPENAI) == prices.nanousd(
        "gpt-5", used(), OPENAI
    )


FILE = """
[mine]
input = 1
output = 10
cached = 0.1
cache_write = 2
[mine.tiers.flex]
input = 0.5
output = 5
"""


def test_a_users_file_may_have_prices_by_tier(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(FILE)
    prices = Prices(tmp_path / "p.toml")
    assert prices.nanousd("mine", used(), LOCAL) == 600 * 1000 + 400 * 100 + 100 * 10_000
    assert prices.nanousd("mine", used(tier="flex"), LOCAL) == 1000 * 500 + 100 * 5000
    assert prices.nanousd("mine", used(cache_write_tokens=500), LOCAL) == (
        100 * 1000 + 500 * 2000 + 400 * 100 + 100 * 10_000
    )


def test_a_tier_that_the_file_does_not_name_costs_the_models_own_price(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(FILE)
    prices = Prices(tmp_path / "p.toml")
    assert prices.nanousd("mine", used(tier="priority"), LOCAL) == prices.nanousd("mine", used(), LOCAL)


def test_a_bad_price_of_a_tier_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(
        '{"m": {"input": 1, "output": 1, "tiers": {"flex": {"input": -1, "output": 1}}}}'
    )
    with pytest.raises(SettingsError, match="m: tiers: flex: input: "):
        Prices(tmp_path / "p.json")
