"""The table that sorts an endpoint's error into a kind of failure: the first rule that matches decides.

Providers use the same status for different things: a wrong key comes as 400, 401 or 403, an empty account as
400, 402, 403, 412 or 429, and a prompt that can never fit as 400, 413, 422, 429 or 500. So codes and words
come first, and the status decides if they say nothing. ``tests/unit/llm/test_provider_errors.py`` has the
bodies that providers send.
"""

import re
from collections.abc import Container
from typing import NamedTuple

from rlm_dist.errors import FailureKind
from rlm_dist.llm.error_bodies import ErrorBody

# The status of an error that came with HTTP 200 and names no status itself.
UNKNOWN_STATUS = 0


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.I | re.S)


class _Rule(NamedTuple):
    """Matches an error by its status and, if it has any, by one of its codes or by its words."""

    kind: FailureKind
    statuses: Container[int]
    codes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None

    def matches(self, status: int, error: ErrorBody) -> bool:
        if status not in self.statuses:
            return False
        if not self.codes and self.words is None:
            return True
        return bool(self.codes & error.codes) or bool(self.words and self.words.search(error.text))


_ANY = range(1000)
_REFUSED = frozenset({UNKNOWN_STATUS, *range(400, 500)})
_MALFORMED = frozenset({UNKNOWN_STATUS, 400, 422})

KEY_WORDS = _words(
    r"\b(?:incorrect|invalid|missing|no|wrong) (?:x-)?api[- _]?key",
    r"api[- _]?key (?:is )?(?:not valid|not found|expired|invalid|missing)",
)

_RULES = (
    # A router that holds back money for the calls in flight: it asks to wait, though with a 402.
    _Rule(FailureKind.RATE, _REFUSED, frozenset({"openrouter_in_flight_budget"})),
    _Rule(
        FailureKind.INVALID,
        _REFUSED,
        frozenset({"moderation", "content_filter", "content_policy_violation"}),
        _words(r"input was flagged", r"requires moderation"),
    ),
    # The limit on the output is too high, not the prompt too long.
    _Rule(
        FailureKind.INVALID,
        _MALFORMED,
        words=_words(r"max_(?:completion_|new_|output_)?tokens['`\"]?.{0,40}? is too large"),
    ),
    _Rule(
        FailureKind.QUOTA,
        _REFUSED,
        frozenset({
            "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_disabled",
            "insufficient_balance", "insufficient_credits", "account_deactivated", "budget_exceeded",
            "enforced_spend_limit_reached",            "quota_per_day",
        }),
        _words(
            r"credit balance is too low",
            r"insufficient[ _](?:account )?(?:balance|credits?|funds|quota)",
            r"(?:requires? more|out of|not enough|used all available|n[o']t have any) credits",
            r"spending limit|reached your specified .{0,40}usage limits",
            r"billing (?:hard limit|(?:is|has been) (?:not active|disabled))",
            r"account\b.{0,60}? (?:is|has been) (?:not active|deactivated|suspended|disabled)",
            r"budget has been exceeded|exceeded ?budget|over budget",
        ),
    ),
    _Rule(FailureKind.QUOTA, {402}),
    _Rule(
        FailureKind.UNKNOWN_MODEL,
        _REFUSED,
        frozenset({
            "model_not_found", "unknown_model", "invalid_model", "model_not_available",
            "model_decommissioned", "deploymentnotfound", "key_model_access_denied",
            "team_model_access_denied",
        }),
    ),
    _Rule(FailureKind.AUTH, {401, 403}),
    _Rule(
        FailureKind.AUTH,
        _REFUSED,
        frozenset({"invalid_api_key", "api_key_invalid", "authentication_error", "unauthenticated"}),
        _words(KEY_WORDS.pattern, r"location is not supported"),
    ),
    # More than the limit of a whole minute can never fit; words, as the code is that of a rate.
    _Rule(FailureKind.TOO_LONG, {UNKNOWN_STATUS, 429}, words=_words(r"request too large")),
    _Rule(FailureKind.TOO_LONG, {413}),
    _Rule(
        FailureKind.TOO_LONG,
        _ANY,
        frozenset({
            "context_length_exceeded", "exceed_context_size_error", "string_above_max_length",
            "request_too_large",
        }),
    ),
    _Rule(FailureKind.RATE, {429, 498, 529}),
    _Rule(
        FailureKind.RATE,
        _ANY,
        frozenset({
            "rate_limit_exceeded", "rate_limit_error", "too_many_requests", "too_many_requests_error",
            "resource_exhausted", "capacity_exceeded", "flex_tier_capacity_exceeded",
            "overloaded_error", "throttlingexception",
        }),
    ),
    _Rule(
        FailureKind.TOO_LONG,
        {*_MALFORMED, 500},
        words=_words(
            r"maximum context length", r"maximum model length", r"context[ _](?:size|length|window)",
            r"prompt is too long", r"too many tokens", r"request too large", r"range of input length",
            r"reduce the length of", r"input token count", r"maximum number of tokens allowed",
            r"tokens['`]? \+ `?max_new_tokens", r"inputs['`]? must have less than",
        ),
    ),
    _Rule(
        FailureKind.UNKNOWN_MODEL,
        {*_MALFORMED, 404},
        words=_words(
            r"models?\b.{0,120}?\b(?:not found|not exist|unknown(?! (?:param|field|name|arg))|not available"
            r"|decommissioned)",
            r"not a valid model", r"(?:invalid|unknown|unable to access) model", r"no endpoints found for",
            r"^model: ",
        ),
    ),
    _Rule(FailureKind.TRANSIENT, {408, 409, 424, 425, 500, *range(502, 600)}),
    _Rule(
        FailureKind.INVALID,
        {UNKNOWN_STATUS},
        frozenset({"invalid_request_error", "invalid_request", "bad_request", "badrequesterror"}),
    ),
    _Rule(FailureKind.TRANSIENT, {UNKNOWN_STATUS}),
)  # fmt: skip


def kind_of(status: int, error: ErrorBody) -> FailureKind:
    """The kind of an error that came with this HTTP status, or ``UNKNOWN_STATUS``."""
    return next((rule.kind for rule in _RULES if rule.matches(status, error)), FailureKind.INVALID)
