"""What one endpoint wants to be different in the chat requests for one model.

Some models refuse ``max_tokens`` and want ``max_completion_tokens``; other servers know only ``max_tokens``.
Some refuse any temperature, reasoning effort or JSON Schema, and some servers only stream. The name of a
model tells the first; the rest is learnt from refusals. A dialect only ever grows, so a request is repeated a
few times at most.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rlm_dist.llm.error_bodies import ErrorBody
from rlm_dist.llm.structured_output import FIELD, is_ours, schema_digest

_LIMITS = ("max_tokens", "max_completion_tokens")
# Without these the answer is still one to the same question. A limit on the output is never left out.
_DROPPABLE = ("temperature", "reasoning_effort")
_REASONING_MODEL = re.compile(r"(?:^|[/:])(?:o[1-9](?:-|$)|gpt-5)", re.I)
_NAMES = {
    "max_tokens": r"max_tokens",
    "max_completion_tokens": r"max_completion_tokens",
    "temperature": r"temperature",
    "reasoning_effort": r"reasoning_?effort|support thinking",
    "stream_options": r"stream_options",
}
_REFUSED_CODES = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"}
)
_REFUSED_WORDS = re.compile(
    r"unsupported|not support|unrecognized|unknown|not permitted|extra_forbidden|not allowed|deprecated"
    r"|unexpected|cannot find field|does(?: not|n't) accept|may only be|only [\d.]+ is allowed",
    re.I,
)
# The model takes the field, with another value: the user has to choose one.
_HAS_OTHER_VALUES = re.compile(r"supported values are|must be one of|expected one of|valid values", re.I)
_NEAR_CHARS = 60
_SCHEMA = re.compile(
    r"response[_ ]?format|\b(?:json[_ ]?)?schema\b|grammar|guided|structured[_ ]output", re.I
)
# The mode is there, but not for this schema.
_ONE_SCHEMA = re.compile(
    r"invalid (?:json )?schema|schema (?:must|contains|uses|has|is (?:invalid|not valid|too))|in context="
    r"|grammar|keyword|too complex",
    re.I,
)
_MOST_SCHEMAS = 100
_WANTS_STREAM = re.compile(
    r"\bstream\W{0,4}(?:parameter )?(?:must|should|needs to|has to) be (?:set to )?['`\"]?true"
    r"|only supports? (?:the )?stream|for non-stream\w* calls"
    r"|requires? (?:the )?streaming|streaming is required"
    r"|non-?\s?stream\w*\b.{0,40}?(?:not (?:be )?(?:supported|allowed)|unsupported)",
    re.I | re.S,
)


@dataclass(frozen=True)
class Dialect:
    """The changes to a chat request; ``refused`` are the names of fields that were refused so far.

    ``refused_schemas`` are the digests of the only JSON Schemas that are refused.
    """

    limit: str = "max_tokens"
    refused: frozenset[str] = frozenset()
    stream: bool = False
    refused_schemas: frozenset[str] = frozenset()

    def dropped(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """The parameters in ``body`` that are left out."""
        names = [name for name in _DROPPABLE if name in self.refused and name in body]
        return (*names, FIELD) if self._refuses_schema(body) else tuple(names)

    def _refuses_schema(self, body: Mapping[str, Any]) -> bool:
        """Whether the schema in ``body`` is left out; a ``response_format`` of the user's never is."""
        if not is_ours(body):
            return False
        return FIELD in self.refused or (
            bool(self.refused_schemas) and schema_digest(body) in self.refused_schemas
        )

    def translated(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``body``, as ``wire.chat_body`` makes it, in this dialect."""
        explicit = "max_completion_tokens" in body and "max_completion_tokens" not in self.refused
        if self == _PLAIN and not explicit:
            return dict(body)
        sent = dict(body)
        limits = [sent.pop(name) for name in reversed(_LIMITS) if name in sent]
        if limits:  # a limit in the extra body wins
            sent["max_completion_tokens" if explicit else self.limit] = limits[0]
        for name in self.dropped(body):
            del sent[name]
        if self.stream:
            sent["stream"] = True
            if "stream_options" not in self.refused:
                sent.setdefault("stream_options", {"include_usage": True})
        return sent

    def learnt(self, error: ErrorBody, body: Mapping[str, Any]) -> "Dialect | None":
        """The dialect after ``error`` refused ``body``, which is in this one; None if it says nothing new."""
        if not self.stream and _WANTS_STREAM.search(error.text):
            return replace(self, stream=True)
        name = _refused_field(error, [name for name in _NAMES if name in body])
        if name is None and is_ours(body) and (error.parameter == FIELD or _SCHEMA.search(error.text)):
            return self._without_schema(error, body)
        if name is None or name in self.refused:
            return None
        refused = self.refused | {name}
        if name not in _LIMITS:
            return replace(self, refused=refused)
        others = [other for other in _LIMITS if other not in refused]
        return replace(self, refused=refused, limit=others[0]) if others else None

    def _without_schema(self, error: ErrorBody, body: Mapping[str, Any]) -> "Dialect":
        """The answer is checked anyway, so a schema is left out whatever the refusal says about it."""
        if _ONE_SCHEMA.search(error.text) and len(self.refused_schemas) < _MOST_SCHEMAS:
            return replace(self, refused_schemas=self.refused_schemas | {schema_digest(body)})
        return replace(self, refused=self.refused | {FIELD})


_PLAIN = Dialect()


def dialect_of(model: str) -> Dialect:
    """What is known about a model by its name."""
    return Dialect("max_completion_tokens") if _REASONING_MODEL.search(model) else _PLAIN


def _refused_field(error: ErrorBody, sent: list[str]) -> str | None:
    """The field among ``sent`` that ``error`` says is not supported, or None."""
    if _HAS_OTHER_VALUES.search(error.text):
        return None
    if error.parameter in sent and error.codes & _REFUSED_CODES:
        return error.parameter
    mentions = []
    for name in sent:
        place = re.search(rf"(?<![a-z_])(?:{_NAMES[name]})(?![a-z_])", error.text, re.I)
        if place is not None:
            near = error.text[max(0, place.start() - _NEAR_CHARS) : place.end() + _NEAR_CHARS]
            if _REFUSED_WORDS.search(near):
                mentions.append((place.start(), name))
    return min(mentions)[1] if mentions else None
