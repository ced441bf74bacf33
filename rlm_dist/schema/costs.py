"""What calls use: tokens, and money in USD or nano-dollars (1e-9 USD)."""

import re
from typing import Literal

from pydantic import Field

from rlm_dist.schema.base import Role, Wire, _is_none, _is_zero

Tier = Literal["default", "flex", "priority"]
DEFAULT_TIER: Tier = "default"
FLEX: Tier = "flex"
# Names that endpoints have for the tier at their listed price.
_DEFAULT_NAMES = frozenset({DEFAULT_TIER, "auto", "on_demand", "standard", "standard_only"})
_TIER_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
_TOKENS = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "input_audio_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
)


def tier_name(value: object) -> str | None:
    """A service tier as we name it; ``other`` if it cannot be a name, None if there is none."""
    if not isinstance(value, str) or not value:
        return None
    name = value.lower()
    if name in _DEFAULT_NAMES:
        return DEFAULT_TIER
    return name if _TIER_NAME.fullmatch(name) else "other"


class Usage(Wire):
    """Tokens of one or more calls; for one call, also the tier and the money that the endpoint reported.

    ``cached_tokens``, ``cache_write_tokens`` and ``input_audio_tokens`` are separate parts of
    ``input_tokens``, ``reasoning_tokens`` and ``output_audio_tokens`` of ``output_tokens``. ``estimated`` is
    true if the endpoint reported no usage and the numbers are our own count. ``tier`` is named by
    ``tier_name``.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = Field(default=0, exclude_if=_is_zero)
    input_audio_tokens: int = Field(default=0, exclude_if=_is_zero)
    output_tokens: int = 0
    reasoning_tokens: int = Field(default=0, exclude_if=_is_zero)
    output_audio_tokens: int = Field(default=0, exclude_if=_is_zero)
    estimated: bool = False
    tier: str | None = Field(default=None, exclude_if=_is_none)
    billed_nanousd: int | None = Field(default=None, exclude_if=_is_none)

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        sums = {name: getattr(self, name) + getattr(other, name) for name in _TOKENS}
        return Usage(**sums, estimated=self.estimated or other.estimated)


class Charge(Wire):
    """One attempt that an endpoint served and reported usage for; ``endpoint`` is as in ``Completion``."""

    model: str
    usage: Usage
    endpoint: str | None = Field(default=None, exclude_if=_is_none)


class Costs(Wire):
    """What a job or batch used: the seed's keys, and their parts.

    Money is in USD, null if a price is unknown; ``tiers`` splits it by the tier that served the calls.
    Tokens are input + output. ``retries`` counts the attempts after the first of each call, ``rate_limited``
    the attempts that a 429 refused, ``truncated_calls`` the sub-calls whose answer was cut off at the output
    limit, ``tool_calls`` the calls of tools. ``pending_calls`` counts the calls that were in flight when
    their job ended and whose costs are still to come; 0: costs are final.
    """

    total_cost: float | None = 0.0
    root_llm_cost: float | None = 0.0
    sub_llm_cost: float | None = 0.0
    tiers: dict[str, float | None] = Field(default={})
    root_llm_tokens: int = 0
    sub_llm_tokens: int = 0
    root_llm_calls: int = 0
    sub_llm_calls: int = 0
    root_input_tokens: int = 0
    root_cached_tokens: int = 0
    root_output_tokens: int = 0
    sub_input_tokens: int = 0
    sub_cached_tokens: int = 0
    sub_output_tokens: int = 0
    estimated_calls: int = 0
    cache_hits: int = 0
    failed_calls: int = 0
    truncated_calls: int = 0
    duplicate_paid_calls: int = 0
    retries: int = 0
    rate_limited: int = 0
    tool_calls: int = 0
    pending_calls: int = 0


class ModelCosts(Wire):
    """One line of ``rlm-dist cost``: what one model used in one role and tier.

    ``cache_write_tokens`` are part of the input, ``reasoning_tokens`` of the output, and ``audio_tokens`` of
    both. ``billed_calls`` counts the calls whose cost is what the endpoint billed.
    """

    role: Role
    model: str
    tier: str = DEFAULT_TIER
    calls: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int = 0
    output_tokens: int
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    billed_calls: int = 0
    cost: float | None
