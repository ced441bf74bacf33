"""What a user may ask of one job beside query and context: models and limits, under the names users see.

Money is given in USD (``max_usd``) and kept as integer nano-dollars (``Limits.max_nanousd``).
"""

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlm_dist.errors import InputError
from rlm_dist.models import NANO, Limits

_MOST = 2**53
_MOST_USD = 10**9
_MOST_URL_CHARS = 2000

Name = Annotated[str, Field(min_length=1)]


class JobOptions(BaseModel):
    """Models and limits of one job, each None where it is not given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    model: Name | None = None
    sub_model: Name | None = None
    max_iterations: int | None = Field(default=None, ge=1, le=_MOST)
    max_usd: Annotated[Decimal, Field(strict=False)] | None = Field(default=None, ge=0, le=_MOST_USD)
    max_tokens: int | None = Field(default=None, ge=1, le=_MOST)
    max_sub_calls: int | None = Field(default=None, ge=0, le=_MOST)
    max_seconds: float | None = Field(default=None, gt=0)
    max_depth: int | None = Field(default=None, ge=0, le=100)

    def over(self, defaults: "JobOptions") -> "JobOptions":
        """These options, and ``defaults`` where one is not given."""
        if not self.model_fields_set:
            return defaults
        own = {name: getattr(self, name) for name in JobOptions.model_fields}
        return defaults.model_copy(update={name: value for name, value in own.items() if value is not None})

    def limits(self) -> Limits:
        """The limits as a job carries them."""
        given = self.model_dump(exclude_none=True, exclude={"model", "sub_model", "max_usd"})
        if self.max_usd is not None:
            given["max_nanousd"] = int((self.max_usd * NANO).to_integral_value(ROUND_FLOOR))
        return Limits.model_validate(given)


def read_options(given: Mapping[str, object]) -> JobOptions:
    """Check options that were given by name.

    Raises:
        InputError: listing every unknown name and bad value.
    """
    try:
        return JobOptions.model_validate(dict(given))
    except ValidationError as error:
        raise InputError(tuple(problems_of(error))) from None


def check_url(url: str) -> str:
    """The address of a webhook, where it can be used.

    Raises:
        InputError: where it is no HTTP address, or holds a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or len(url) > _MOST_URL_CHARS:
        raise InputError(("webhook: must be an http:// or https:// address",))
    if "@" in parts.netloc:
        raise InputError(("webhook: must hold no user or password",))
    return url


def problems_of(error: ValidationError) -> list[str]:
    """One line for each problem, which names the field and never shows its value."""
    return [f"{_place(item['loc'])}: {_said(item)}" for item in error.errors(include_input=False)]


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the line"


def _said(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "is not known"
    if item["type"] == "missing":
        return "is missing"
    message: str = item["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]
