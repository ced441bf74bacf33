"""Reads what a response says of its usage: tokens, the service tier, and what the endpoint billed.

An endpoint may report anything. A number that cannot be true counts as not reported: it would end in the
ledger, which cannot hold it. A part is never more than what is left of the whole.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from rlm_dist.schema import CHARS_PER_TOKEN, NANO, CallRequest, Usage, tier_name

_MOST_TOKENS = 10**9
_MOST_USD = 10**6
_CACHED = ("cached_tokens", "cache_read_input_tokens")
_CACHE_WRITES = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")


def reported_usage(reply: Mapping[str, Any], request: CallRequest) -> Usage | None:
    """The usage that a response without an answer reports; None if it reports no use that can be true."""
    usage = _mapping(reply.get("usage"))
    tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return usage_of(reply, request, "") if any((*tokens, _billed_nanousd(usage))) else None


def usage_of(reply: Mapping[str, Any], request: CallRequest, text: str) -> Usage:
    """The usage of the answer ``text``: as reported, or our own count."""
    usage = _mapping(reply.get("usage"))
    prompt, output = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens", 0))
    if prompt is None or output is None:
        return _estimated_usage(reply, request, text)
    # Some endpoints put what they know of the cache beside the details. The details come first.
    inputs = {**usage, **_known(usage.get("prompt_tokens_details"))}
    outputs = _mapping(usage.get("completion_tokens_details"))
    cached = _part(prompt, inputs, *_CACHED)
    written = _part(prompt - cached, inputs, *_CACHE_WRITES)
    reasoning = _part(output, outputs, "reasoning_tokens")
    return Usage(
        input_tokens=prompt,
        cached_tokens=cached,
        cache_write_tokens=written,
        input_audio_tokens=_part(prompt - cached - written, inputs, "audio_tokens"),
        output_tokens=output,
        reasoning_tokens=reasoning,
        output_audio_tokens=_part(output - reasoning, outputs, "audio_tokens"),
        tier=_tier(reply),
        billed_nanousd=_billed_nanousd(usage),
    )


def _estimated_usage(reply: Mapping[str, Any], request: CallRequest, text: str) -> Usage:
    """Our own count of the tokens that are not reported, with the tier and the bill if there are any."""
    usage = _mapping(reply.get("usage"))
    prompt, output = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    prompt_chars = sum(len(message.content) for message in request.messages)
    return Usage(
        input_tokens=-(-prompt_chars // CHARS_PER_TOKEN) if prompt is None else prompt,
        output_tokens=-(-len(text) // CHARS_PER_TOKEN) if output is None else output,
        estimated=True,
        tier=_tier(reply),
        billed_nanousd=_billed_nanousd(usage),
    )


def _tier(reply: Mapping[str, Any]) -> str | None:
    return tier_name(reply.get("service_tier")) or tier_name(_mapping(reply.get("usage")).get("service_tier"))


def _billed_nanousd(usage: Mapping[str, Any]) -> int | None:
    """The endpoint's own bill (``cost``, in USD); None if a user's own key paid a part of it elsewhere."""
    cost: Any = usage.get("cost")
    if not _is_number(cost) or not 0 <= cost <= _MOST_USD or usage.get("is_byok"):
        return None
    return int((Decimal(str(cost)) * NANO).to_integral_value(ROUND_HALF_UP))


def _part(whole: int, fields: Mapping[str, Any], *names: str) -> int:
    """The first of these fields that can be true, at most ``whole``."""
    counts = (_count(fields.get(name)) for name in names)
    return min(whole, next((count for count in counts if count is not None), 0))


def _count(value: Any) -> int | None:
    fits = _is_number(value) and 0 <= value <= _MOST_TOKENS and value % 1 == 0
    return int(value) if fits else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _known(details: object) -> Mapping[str, Any]:
    return {name: value for name, value in _mapping(details).items() if value is not None}
