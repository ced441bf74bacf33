"""The price of a model call in integer nano-dollars (1e-9 USD), or None if the price is unknown.

Prices come first from the user's file (``RLM_PRICES``; an exact model name before ``*``), then from the
published prices in the genai-prices package, without network access. A published price counts only if the
endpoint's address is that provider's: a private server may call its model ``gpt-4o`` too. It is the price of
the tier in the usage; if none is published for that tier, the price is unknown.

The file is JSON or TOML (by its suffix): ``{model: {"input": N, "output": N, "cached": N, "cache_write": N,
"tiers": {tier: {"input": N, …}}}}`` in USD per million tokens. Without ``cached`` or ``cache_write``, such
input costs the same as other input. A tier that is not named costs what the model costs.
"""

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

# Loaded here, once before the fork: the first price would load it in each process of a pool.
import genai_prices.data  # noqa: F401
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rlm_dist.errors import SettingsError
from rlm_dist.schema import DEFAULT_TIER, FLEX, NANO, Usage

_MILLION = 1_000_000
_CACHED_MODELS = 1024
# Tiers without prices in the package, of which the provider says that they cost what the default tier costs.
_AT_DEFAULT_PRICE = frozenset({("groq", FLEX)})


class _TierPrice(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cached: Decimal | None = Field(default=None, ge=0)
    cache_write: Decimal | None = Field(default=None, ge=0)

    def usd(self, usage: Usage) -> Decimal:
        """What these tokens cost."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        written = min(usage.cache_write_tokens, usage.input_tokens - cached)
        parts = [
            (self.input, usage.input_tokens - cached - written),
            (self.input if self.cached is None else self.cached, cached),
            (self.input if self.cache_write is None else self.cache_write, written),
            (self.output, usage.output_tokens),
        ]
        return sum((price * tokens for price, tokens in parts), Decimal()) / _MILLION


class _Price(_TierPrice):
    tiers: dict[str, _TierPrice] = Field(default_factory=dict)

    def of(self, tier: str | None) -> _TierPrice:
        """The price of a tier."""
        return self.tiers.get(tier or DEFAULT_TIER, self)


_TABLE: TypeAdapter[dict[str, _Price]] = TypeAdapter(dict[str, _Price])


class Prices:
    """Prices calls one by one, as some models cost more for long prompts."""

    def __init__(self, overrides: Path | None) -> None:
        """Read the user's file, if there is one.

        Raises:
            SettingsError: if it cannot be read, naming the line, or the model and field.
        """
        self._overrides: Mapping[str, _Price] = _read(overrides) if overrides else {}

    def nanousd(self, model: str, usage: Usage, api_url: str) -> int | None:
        """The cost of one call at this endpoint, rounded half up."""
        own = self.own_nanousd(model, usage)
        return self.published_nanousd(model, usage, api_url) if own is None else own

    def own_nanousd(self, model: str, usage: Usage) -> int | None:
        """The cost by the user's file; None if that does not name the model."""
        price = self._overrides.get(model) or self._overrides.get("*")
        return _nanousd(price.of(usage.tier).usd(usage)) if price else None

    def published_nanousd(self, model: str, usage: Usage, api_url: str) -> int | None:
        """The cost by the published prices."""
        usd = _published_usd(model, usage, api_url)
        return None if usd is None else _nanousd(usd)


def published_window(model: str, api_url: str) -> int | None:
    """The tokens of a model's window, as the published data has it; None if it is not known."""
    try:
        _, listed = get_snapshot().find_provider_model(model, None, None, api_url)
    except LookupError:
        return None
    return listed.context_window


def is_provider(api_url: str) -> bool:
    """Whether the published prices know this address."""
    try:
        get_snapshot().find_provider(None, None, api_url)
    except LookupError:
        return False
    return True


def _nanousd(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value(ROUND_HALF_UP))


def _published_usd(model: str, usage: Usage, api_url: str) -> Decimal | None:
    if not _is_listed(model, api_url):
        return None
    priced = PricedUsage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=min(usage.cached_tokens, usage.input_tokens),
        cache_write_tokens=usage.cache_write_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        cache_audio_read_tokens=0,  # endpoints do not say how much of the cached input was audio
        output_tokens=usage.output_tokens,
        output_audio_tokens=usage.output_audio_tokens,
    )
    context = _price_context(usage.tier)
    try:
        price = calc_price(priced, model, provider_api_url=api_url, price_context=context)
    except ValueError:  # parts that its units for this model cannot tell apart
        return None
    at_default = not context or (price.provider.id, usage.tier) in _AT_DEFAULT_PRICE
    known = _complete(price.model_price, usage) and (at_default or _has_price(price.model, context))
    return price.total_price if known else None


def _price_context(tier: str | None) -> dict[str, str]:
    """The package's name for a tier; empty for the default one."""
    if tier in (None, DEFAULT_TIER):
        return {}
    return {"processing": "batch"} if tier == "batch" else {"service_tier": str(tier)}


def _has_price(model: ModelInfo, context: Mapping[str, str]) -> bool:
    """Whether the package has prices for this context; without any, it would take the default ones."""
    now = datetime.now(UTC)
    return any(
        variant.when == context and (variant.constraint is None or variant.constraint.active(now))
        for variant in model.price_variants or ()
    )


@lru_cache(_CACHED_MODELS)
def _is_listed(model: str, api_url: str) -> bool:
    """Whether the package lists the model at this address; cached, as a miss takes as long as a price."""
    try:
        calc_price(PricedUsage(), model, provider_api_url=api_url)
    except LookupError:
        return False
    return True


def _complete(price: ModelPrice, usage: Usage) -> bool:
    """Whether each kind of token used has a price; the package counts a kind without one as free."""
    uses = [(usage.input_tokens, price.input_mtok), (usage.output_tokens, price.output_mtok)]
    return all(mtok is not None for tokens, mtok in uses if tokens)


def _read(path: Path) -> Mapping[str, _Price]:
    try:
        text = path.read_text("utf-8")
        table: Any = (
            tomllib.loads(text, parse_float=Decimal)
            if path.suffix == ".toml"
            else json.loads(text, parse_float=Decimal)
        )
        return _TABLE.validate_python(table)
    except ValidationError as error:
        problems = tuple(_problem(path, item["loc"], item["msg"]) for item in error.errors())
    except OSError as error:
        problems = (f"RLM_PRICES: {path}: {error.strerror}",)
    except ValueError as error:  # bad UTF-8, JSON or TOML; each error names the place
        problems = (f"RLM_PRICES: {path}: {error}",)
    raise SettingsError(problems)


def _problem(path: Path, location: tuple[int | str, ...], message: str) -> str:
    source = ": ".join(["RLM_PRICES", str(path), *map(str, location)])
    return f"{source}: {message[0].lower()}{message[1:]}"
