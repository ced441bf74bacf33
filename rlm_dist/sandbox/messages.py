"""The frames that come from the child, validated: what is not exactly one of these is hostile.

The format is described in ``inside.frames``.
"""

import json
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from rlm_dist.errors import SandboxError
from rlm_dist.schema import Clipped, FinalValue, Message, Wire

_MAX_DEPTH = 50  # of an answer's JSON; what is nested deeper is kept as text only


class HandedIn(Wire):
    """An answer, as the child tells it."""

    text: str
    json_text: str | None = Field(alias="json")
    by: Literal["FINAL", "FINAL_VAR", "answer"]

    def value(self) -> FinalValue:
        """The answer for the engine."""
        return FinalValue(text=self.text, value=_lenient(self.json_text), by=self.by)


class PrintedOutput(Wire):
    """What was printed, already cut."""

    head: str
    tail: str
    omitted: int = Field(ge=0)

    def clipped(self, limit: int) -> Clipped:
        """The same for the engine, whatever the child made of the limit."""
        head = self.head[:limit]
        tail = self.tail[: limit - len(head)]
        cut = len(self.head) - len(head) + len(self.tail) - len(tail)
        return Clipped(head=head, tail=tail, omitted=self.omitted + cut)


class ContextReady(Wire):
    """The context is loaded."""

    op: Literal["ready"]


class Broken(Wire):
    """The child cannot start."""

    op: Literal["broken"]
    detail: str = Field(max_length=2000)


class QueryAsked(Wire):
    """One llm_query or a part of a batch."""

    op: Literal["query"]
    id: int = Field(ge=0)
    prompts: tuple[Annotated[tuple[Message, ...], Field(min_length=1)], ...] = Field(min_length=1)
    model: str | None = Field(max_length=1000)


class CellDone(Wire):
    """A cell ended."""

    op: Literal["done"]
    cell: int
    output: PrintedOutput
    error: str | None
    final: HandedIn | None
    partial: str | None
    names: tuple[str, ...] = Field(max_length=100)


class ResolvedPath(Wire):
    """A variable was looked up."""

    op: Literal["resolved"]
    found: bool
    final: HandedIn | None
    names: tuple[str, ...] = Field(max_length=100)


ChildMessage = ContextReady | Broken | QueryAsked | CellDone | ResolvedPath
_MESSAGE: TypeAdapter[ChildMessage] = TypeAdapter(Annotated[ChildMessage, Field(discriminator="op")])


def parse(payload: bytes) -> ChildMessage:
    """The message in a frame.

    Raises:
        SandboxError: it is none of them; the payload is not shown, as it holds prompts.
    """
    try:
        return _MESSAGE.validate_json(payload, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise SandboxError(f"the REPL process sent a frame that is not valid ({first['type']})") from None


def _lenient(text: str | None) -> JsonValue:
    """The JSON value in ``text``; None where there is none, or none that every reader can take."""
    if text is None:
        return None
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if _depth_within(value, _MAX_DEPTH) else None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _depth_within(value: JsonValue, limit: int) -> bool:
    if not isinstance(value, (list, dict)):
        return True
    items = value.values() if isinstance(value, dict) else value
    return limit > 0 and all(_depth_within(item, limit - 1) for item in items)
