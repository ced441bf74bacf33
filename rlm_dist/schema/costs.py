"""What calls use: tokens, and money in USD or nano-dollars (1e-9 USD)."""

from pydantic import Field

from rlm_dist.schema.base import Role, Wire, _is_none


class Usage(Wire):
    """Tokens of one or more calls; ``cached_tokens`` are part of ``input_tokens``.

    ``estimated`` is true if the endpoint reported no usage and the numbers are our own count.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            estimated=self.estimated or other.estimated,
        )


class Charge(Wire):
    """One attempt that an endpoint served and reported usage for; ``endpoint`` is as in ``Completion``."""

    model: str
    usage: Usage
    endpoint: str | None = Field(default=None, exclude_if=_is_none)


class Costs(Wire):
    """What a job or batch used: the seed's keys, and their parts.

    Money is in USD, null if a price is unknown. Tokens are input + output. ``retries`` counts the attempts
    after the first of each call, ``rate_limited`` the attempts that a 429 refused, ``truncated_calls`` the
    sub-calls whose answer was cut off at the output limit. ``pending_calls`` counts the calls that were in
    flight when their job ended and whose costs are still to come; 0: costs are final.
    """

    total_cost: float | None = 0.0
    root_llm_cost: float | None = 0.0
    sub_llm_cost: float | None = 0.0
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
    pending_calls: int = 0


class ModelCosts(Wire):
    """One line of ``rlm-dist cost``: what one model used in one role."""

    role: Role
    model: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: float | None
