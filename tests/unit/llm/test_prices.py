"""Prices are exact integers, and unknown rather than wrong."""

import json
from pathlib import Path

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import Usage

OPENAI = "https://api.openai.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"
LOCAL = "http://localhost:8080/v1"
USAGE = Usage(input_tokens=1000, cached_tokens=400, output_tokens=100)


def table(folder: Path, text: str, name: str = "prices.json") -> Path:
    """A file with prices."""
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_published_price_is_found_by_the_provider_and_the_name() -> None:
    # gpt-4o: 2.50 USD in, 1.25 cached, 10.00 out, per million tokens.
    assert Prices(None).nanousd("gpt-4o", USAGE, OPENAI) == 600 * 2500 + 400 * 1250 + 100 * 10_000


def test_a_long_prompt_costs_more_by_itself() -> None:
    long, short = Usage(input_tokens=300_000), Usage(input_tokens=100_000)
    prices = Prices(None)
    price_long = prices.nanousd("gemini-2.5-pro", long, GOOGLE)
    price_short = prices.nanousd("gemini-2.5-pro", short, GOOGLE)
    assert price_short is not None
    assert price_long is not None
    assert price_long > 3 * price_short


@pytest.mark.parametrize(
    "url",
    [
        LOCAL,
        "http://127.0.0.1:9/v1",
        "http://10.1.2.3/v1",
        "http://vllm.internal/v1",
        "https://proxy.example/v1",
    ],
)
def test_a_known_name_at_an_endpoint_of_ones_own_has_no_price(url: str) -> None:
    assert Prices(None).nanousd("gpt-4o", USAGE, url) is None


def test_an_unknown_model_is_unknown_and_not_free() -> None:
    assert Prices(None).nanousd("no-such-model", USAGE, OPENAI) is None


def test_a_model_without_an_output_price_is_unknown_where_it_wrote() -> None:
    prices = Prices(None)
    assert prices.nanousd("text-embedding-3-small", Usage(input_tokens=1000), OPENAI) == 20_000
    assert prices.nanousd("text-embedding-3-small", USAGE, OPENAI) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", '{"mine": {"input": 0.1, "cached": 0.01, "output": 1}, "*": {"input": 2, "output": 3}}'),
        ("p.toml", 'mine = {input = 0.1, cached = 0.01, output = 1}\n"*" = {input = 2, output = 3}'),
    ],
)
def test_the_users_prices_come_first(tmp_path: Path, name: str, text: str) -> None:
    prices = Prices(table(tmp_path, text, name))
    assert prices.nanousd("mine", USAGE, LOCAL) == 600 * 100 + 400 * 10 + 100 * 1000
    assert prices.nanousd("other", USAGE, LOCAL) == 1000 * 2000 + 100 * 3000
    assert prices.nanousd("gpt-4o", USAGE, OPENAI) == 1000 * 2000 + 100 * 3000


def test_a_file_without_a_star_leaves_the_published_prices(tmp_path: Path) -> None:
    prices = Prices(table(tmp_path, '{"mine": {"input": 0, "output": 0}}'))
    assert prices.nanousd("mine", USAGE, LOCAL) == 0
    assert prices.nanousd("gpt-4o", USAGE, OPENAI) == Prices(None).nanousd("gpt-4o", USAGE, OPENAI)
    assert prices.nanousd("gpt-4o", USAGE, LOCAL) is None


@pytest.mark.parametrize(("tokens", "nanousd"), [(1, 1), (3, 2), (4, 2), (5, 3)])
def test_halves_round_up(tmp_path: Path, tokens: int, nanousd: int) -> None:
    prices = Prices(table(tmp_path, '{"*": {"input": 0.0005, "output": 0}}'))
    assert prices.nanousd("m", Usage(input_tokens=tokens), LOCAL) == nanousd


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"m": {"input": 1}}', "m: output: field required"),
        ('{"m": {"input": -1, "output": 1}}', "m: input: "),
        ('{"m": {"input": NaN, "output": 1}}', "m: input: "),
        ('{"m": {"input": 1, "output": 1, "imput": 1}}', "m: imput: "),
        ('{\n"m": }', "line 2"),
        ("[1]", "dictionary"),
    ],
)
def test_a_bad_file_names_the_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        Prices(table(tmp_path, text))
    assert "RLM_PRICES" in str(caught.value)
    assert "prices.json" in str(caught.value)


def test_a_missing_or_garbled_file_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        Prices(tmp_path / "none.json")
    with pytest.raises(SettingsError, match="line 2"):
        Prices(table(tmp_path, "# ours\nm = ?\n", "bad.toml"))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="decode"):
        Prices(tmp_path / "binary.json")


def test_the_file_of_the_settings_can_be_written_by_json_dumps(tmp_path: Path) -> None:
    text = json.dumps({"m": {"input": 1.1, "output": 2.2, "cached": 0.3}})
    assert Prices(table(tmp_path, text)).nanousd("m", Usage(input_tokens=3), LOCAL) == 3300
