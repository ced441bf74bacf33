"""The options of one job, beside query and context: models, their parameters, and limits.

All have the names that users see. The names of those for the sub model's calls begin with ``sub_``; of them
only ``sub_tier`` has the root model's as its default.

Money is entered in USD (``max_usd``) and stored as integer nano-dollars (``JobLimits.max_nanousd``).
"""

import difflib
from collections.abc import Collection, Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
)

from rlm_dist.client.answer_options import checked_field, checked_function, checked_schema, schema_of
from rlm_dist.client.tags import check_tags
from rlm_dist.errors import InputError
from rlm_dist.schema import (
    MAX_INSTRUCTIONS_CHARS,
    MAX_PROGRAM_CHARS,
    MOST_DEPTH,
    MOST_SAMPLES,
    NANO,
    CallParameters,
    Compaction,
    ExtraBody,
    JobLimits,
    OnDivergence,
    Priority,
    Reduce,
    Role,
    Tier,
)

_RAISABLE = {
    "max_usd": "max_nanousd",
    **{name: name for name in ("max_iterations", "max_tokens", "max_sub_calls", "max_seconds")},
}
_MOST = 2**53
_MOST_USD = 10**9
_MOST_SUB_MODELS = 30  # with the job's own two, as many as a ledger has lines for
_MOST_TOOLS = 64
_MOST_URL_CHARS = 2000
_MOST_RUBRIC_CHARS = 20_000
_SIMILAR = 0.8  # of an unknown name to the one that was meant

Name = Annotated[str, Field(min_length=1)]
Schema = Annotated[dict[str, JsonValue], BeforeValidator(schema_of), AfterValidator(checked_schema)]


class JobOptions(BaseModel):
    """Models, limits and policy of one job; None means not set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    model: Name | None = None
    sub_model: Name | None = None
    sub_models: Annotated[tuple[Name, ...], Field(strict=False, max_length=_MOST_SUB_MODELS)] | None = None
    max_iterations: int | None = Field(default=None, ge=1, le=_MOST)
    max_usd: Annotated[Decimal, Field(strict=False)] | None = Field(default=None, ge=0, le=_MOST_USD)
    max_tokens: int | None = Field(default=None, ge=1, le=_MOST)
    max_sub_calls: int | None = Field(default=None, ge=0, le=_MOST)
    max_seconds: float | None = Field(default=None, gt=0)
    max_depth: int | None = Field(default=None, ge=0, le=MOST_DEPTH)
    child_models: Annotated[tuple[Name, ...], Field(strict=False, max_length=MOST_DEPTH)] | None = None
    on_divergence: OnDivergence | None = None
    priority: Priority | None = None
    cache: bool | None = None
    temperature: float | None = Field(default=None, ge=0)
    sub_temperature: float | None = Field(default=None, ge=0)
    max_output_tokens: int | None = Field(default=None, ge=1, le=_MOST)
    sub_max_output_tokens: int | None = Field(default=None, ge=1, le=_MOST)
    reasoning_effort: Name | None = None
    sub_reasoning_effort: Name | None = None
    extra_body: ExtraBody | None = None
    sub_extra_body: ExtraBody | None = None
    tier: Tier | None = None
    sub_tier: Tier | None = None
    instructions: str | None = Field(default=None, min_length=1, max_length=MAX_INSTRUCTIONS_CHARS)
    compaction: Compaction | None = None
    program: str | None = Field(default=None, min_length=1, max_length=MAX_PROGRAM_CHARS)
    response_schema: Schema | None = None
    quote_check: Annotated[str, AfterValidator(checked_field)] | None = None
    validator: Annotated[str, AfterValidator(checked_function)] | None = None
    judge: Name | None = None
    judge_model: Name | None = None
    tools: Annotated[tuple[Name, ...], Field(strict=False, max_length=_MOST_TOOLS)] | None = None
    samples: int | None = Field(default=None, ge=1, le=MOST_SAMPLES)
    reduce: Reduce | None = None

    @field_validator("judge")
    @classmethod
    def _rubric(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or len(value) > _MOST_RUBRIC_CHARS):
            raise ValueError(f"must be a rubric of at most {_MOST_RUBRIC_CHARS:,} characters")
        return value

    def over(self, defaults: "JobOptions") -> "JobOptions":
        """These options, with the values of ``defaults`` for those that are not set."""
        own = {name: getattr(self, name) for name in self.model_fields_set & _NAMES}
        overrides = {name: value for name, value in own.items() if value is not None}
        return defaults.model_copy(update=overrides) if overrides else defaults

    def limits(self) -> JobLimits:
        """The limits in the form that a job's spec holds."""
        limits = self.model_dump(exclude_none=True, include=set(JobLimits.model_fields))
        if self.max_usd is not None:
            limits["max_nanousd"] = _nanousd(self.max_usd)
        return JobLimits.model_validate(limits)

    def parameters(self, role: Role) -> CallParameters:
        """The parameters that the job's calls of ``role`` send; ``tier`` is for both roles."""
        prefix = "sub_" if role is Role.SUB else ""
        values = {name: getattr(self, prefix + name) for name in CallParameters.model_fields}
        return CallParameters.model_validate({**values, "tier": values["tier"] or self.tier})


_NAMES = frozenset(JobOptions.model_fields)


class BatchBudget(BaseModel):
    """What all jobs of a batch together may use; None means not set."""

    model_config = JobOptions.model_config

    batch_max_usd: Annotated[Decimal, Field(strict=False)] | None = Field(default=None, ge=0, le=_MOST_USD)
    batch_max_tokens: int | None = Field(default=None, ge=1, le=_MOST)

    @property
    def max_nanousd(self) -> int | None:
        """The budget of money in nano-dollars, the store's unit."""
        return None if self.batch_max_usd is None else _nanousd(self.batch_max_usd)


class BatchOptions(BatchBudget):
    """The options of a whole batch; ``webhook`` is the address that is notified of its end."""

    webhook: str | None = Field(default=None, max_length=_MOST_URL_CHARS)
    tags: dict[str, str] | None = None

    @field_validator("tags", mode="before")
    @classmethod
    def _good_tags(cls, value: object) -> object:
        return None if value is None else check_tags(value)

    @field_validator("webhook")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://none")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// address")
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise ValueError("must be plain ASCII without spaces; quote other characters with %")
        if "@" in parts.netloc:
            raise ValueError("must not contain a user or password")
        return value


_BATCH_NAMES = frozenset(BatchOptions.model_fields)


def read_budget(**values: object) -> BatchBudget:
    """Check the budget of a batch; None means not set.

    Raises:
        InputError: listing every bad value.
    """
    try:
        return BatchBudget.model_validate(values)
    except ValidationError as error:
        raise InputError(tuple(problems_of(error))) from None


def read_raised(values: Mapping[str, object]) -> dict[str, float]:
    """Check higher limits of jobs, passed by name; return them by the names of ``JobLimits``.

    Raises:
        InputError: listing every bad name and value.
    """
    wrong = sorted(set(values) - set(_RAISABLE))
    if wrong:
        names = ", ".join(_RAISABLE)
        raise InputError(tuple(f"{name}: cannot be raised; these can: {names}" for name in wrong))
    limits = read_options(values).limits()
    return {field: getattr(limits, field) for name, field in _RAISABLE.items() if name in values}


def read_options(values: Mapping[str, object]) -> JobOptions:
    """Check options, passed by name.

    Raises:
        InputError: listing every unknown name and bad value.
    """
    try:
        return JobOptions.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(tuple(problems_of(error, _NAMES | _BATCH_NAMES))) from None


def read_batch_options(values: Mapping[str, object]) -> tuple[BatchOptions, JobOptions]:
    """Check options, passed by name: return those of the batch, and those of its jobs.

    Raises:
        InputError: listing every unknown name and bad value.
    """
    batch_values = {name: value for name, value in values.items() if name in BatchOptions.model_fields}
    job_options = read_options({name: value for name, value in values.items() if name not in batch_values})
    try:
        return BatchOptions.model_validate(batch_values), job_options
    except ValidationError as error:
        raise InputError(tuple(problems_of(error))) from None


def problems_of(error: ValidationError, names: Collection[str] = ()) -> list[str]:
    """One line for each problem; it names the field, if unknown a similar one of ``names``, but no value."""
    return [f"{_field(item['loc'])}: {_message(item, names)}" for item in error.errors(include_input=False)]


def _nanousd(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value(ROUND_FLOOR))


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the line"


_KINDS = {"model_type": "must be an object", "tuple_type": "must be a list"}


def _message(item: Any, names: Collection[str]) -> str:
    if item["type"] == "extra_forbidden":
        similar = difflib.get_close_matches(str(item["loc"][-1]), sorted(names), 1, _SIMILAR)
        return "is not known" + "".join(f"; did you mean {name}?" for name in similar)
    if item["type"] == "missing":
        return "is missing"
    if item["type"] in _KINDS:  # Pydantic's own words name our classes
        return _KINDS[item["type"]]
    message: str = item["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]
