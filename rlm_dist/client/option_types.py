"""The options of ``Client``'s methods as types, so that an editor and mypy know them.

``options`` checks their values. None means not set.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypedDict

from pydantic import BaseModel

from rlm_dist.schema import Compaction, OnDivergence, Priority, Reduce, Tier


class SubmitOptions(TypedDict, total=False):
    """What a job may use, and how its calls are made.

    Money is in USD. ``on_divergence`` says what happens to a job whose worker died if its code, run again,
    gives a different result. ``cache`` lets a sub-call reuse the answer that another job got to the same
    request. Waiting jobs of a higher ``priority`` start first. Names with ``sub_`` are for the sub model's
    calls; ``tier`` is for both roles. ``sub_models`` are the models that code may name besides the job's two,
    ``child_models`` the root models of child jobs at depth 1, 2, …, which need a ``max_depth`` over 1.
    ``extra_body`` has further fields of the requests. ``tools`` are functions of the workers that code may
    call. The job is run ``samples`` times, and ``reduce`` says how one answer is made of theirs.
    ``instructions`` join the root model's prompt. ``compaction`` says what happens to older turns near the
    end of the root model's window. ``program`` is code that runs before the root model is asked, and may hand
    in the answer. Those from ``response_schema`` to ``judge_model`` say what an answer must
    be like; see docs/typed-answers.md.
    """

    model: str | None
    sub_model: str | None
    sub_models: Sequence[str] | None
    max_iterations: int | None
    max_usd: float | Decimal | None
    max_tokens: int | None
    max_sub_calls: int | None
    max_seconds: float | None
    max_depth: int | None
    child_models: Sequence[str] | None
    on_divergence: OnDivergence | None
    priority: Priority | None
    cache: bool | None
    temperature: float | None
    sub_temperature: float | None
    max_output_tokens: int | None
    sub_max_output_tokens: int | None
    reasoning_effort: str | None
    sub_reasoning_effort: str | None
    extra_body: Mapping[str, Any] | None
    sub_extra_body: Mapping[str, Any] | None
    tier: Tier | None
    sub_tier: Tier | None
    instructions: str | None
    compaction: Compaction | None
    program: str | None
    response_schema: Mapping[str, Any] | type[BaseModel] | None
    quote_check: str | None
    validator: str | None
    judge: str | None
    judge_model: str | None
    tools: Sequence[str] | None
    samples: int | None
    reduce: Reduce | None


class BudgetOptions(TypedDict, total=False):
    """What all jobs of a batch together may use; money is in USD."""

    batch_max_usd: float | Decimal | None
    batch_max_tokens: int | None


class RetryOptions(BudgetOptions, total=False):
    """How jobs are run again: ``raised`` has higher limits for those that a limit of their own ended."""

    raised: Mapping[str, object] | None


class SubmitBatchOptions(SubmitOptions, BudgetOptions, total=False):
    """The options of jobs that do not set them, the batch's budgets and tags, and the webhook for its end."""

    webhook: str | None
    tags: Mapping[str, str] | None
