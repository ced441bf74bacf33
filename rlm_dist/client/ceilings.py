"""Ceilings for the jobs of a batch that comes from somebody else: what its lines may ask for at most.

The ceilings are the options of the whole batch over the settings. A line without a value gets the ceiling, as
always; one that asks for more is bad.
"""

from collections.abc import Iterator, Sequence

from rlm_dist.client.batch_item import BatchItem
from rlm_dist.client.options import JobOptions
from rlm_dist.errors import InputError

_NUMBERS = (
    *("max_iterations", "max_usd", "max_tokens", "max_sub_calls", "max_seconds", "max_depth"),
    *("max_output_tokens", "sub_max_output_tokens"),
)
_FIXED = ("model", "sub_model", "extra_body", "sub_extra_body", "validator")
_TIERS = ("flex", "default", "priority")
_PRIORITIES = ("low", "normal", "high")


def check_ceilings(item: BatchItem, ceilings: JobOptions) -> None:
    """Check that a line asks for no more than ``ceilings``, in which no model is None.

    Raises:
        InputError: naming each field that does.
    """
    prefix = "body." if item.form == "openai" else ""
    problems = [f"{prefix}{problem}" for problem in _problems(item.options, ceilings)]
    if problems:
        raise InputError(tuple(problems))


def _problems(asked: JobOptions, ceilings: JobOptions) -> Iterator[str]:
    for name in _NUMBERS:
        value, most = getattr(asked, name), getattr(ceilings, name)
        if value is not None and most is not None and value > most:
            yield f"{name}: is above the ceiling of this batch, {most}"
    if (asked.samples or 1) > (ceilings.samples or 1):
        yield f"samples: is above the ceiling of this batch, {ceilings.samples or 1}"
    for name in _FIXED:
        value = getattr(asked, name)
        if value is not None and value != getattr(ceilings, name):
            yield f"{name}: is not that of this batch, and may not be chosen by a line"
    allowed = {*(ceilings.sub_models or ()), ceilings.model, ceilings.sub_model}
    if not set(asked.sub_models or ()) <= allowed:
        yield "sub_models: has models that this batch does not allow"
    if asked.judge_model is not None and asked.judge_model not in {*allowed, ceilings.judge_model}:
        yield "judge_model: is a model that this batch does not allow"
    if not set(asked.tools or ()) <= set(ceilings.tools or ()):
        yield "tools: has tools that this batch does not allow"
    yield from _above("tier", asked.tier, ceilings.tier or "default", _TIERS)
    yield from _above("sub_tier", asked.sub_tier, ceilings.sub_tier or ceilings.tier or "default", _TIERS)
    yield from _above("priority", asked.priority, ceilings.priority or "normal", _PRIORITIES)


def _above(name: str, asked: str | None, most: str, order: Sequence[str]) -> Iterator[str]:
    if asked is not None and order.index(asked) > order.index(most):
        yield f"{name}: is above the ceiling of this batch, {most}"
