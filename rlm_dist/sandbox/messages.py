"""The frames from the child, validated: a frame that is not exactly one of these messages is hostile.

The format is described in ``inside.frames``.
"""

import json
import sys
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError

from rlm_dist.errors import SandboxError
from rlm_dist.json_schemas import check_schema
from rlm_dist.sandbox.inside.frames import (
    MAX_DETAIL_CHARS,
    MAX_ERROR_CHARS,
    MAX_JSON_CHARS,
    MAX_LINE_CHARS,
    MAX_MESSAGES,
    MAX_MODEL_CHARS,
    MAX_NAME_CHARS,
    MAX_NAMES,
    MAX_PARTIAL_BYTES,
    MAX_PROMPTS,
    MAX_SCHEMA_BYTES,
    MAX_TEXT_BYTES,
    MAX_TOOL_BYTES,
    MAX_UPLOADS,
    PIECE_BYTES,
)
from rlm_dist.schema import Clipped, FinalValue, Message, Wire

_MAX_DEPTH = 50  # of an answer's JSON; a value that is nested deeper is kept as text only
# Of a frame: a value takes up to some hundred bytes of memory, however short its JSON is.
_MAX_MARKS = 1 << 16
_MAX_TOKENS = 1 << 18
_SCHEMA_BYTES_PER_CHAR = 40  # of memory, at most
_ARGUMENT_BYTES = 64  # of memory for a character of a tool's arguments, at most
_MESSAGE_BYTES = 500  # of memory that a message takes besides its content
_Number = Annotated[int, Field(ge=0, lt=1 << 53)]
_Names = Annotated[tuple[Annotated[str, Field(max_length=MAX_NAME_CHARS)], ...], Field(max_length=MAX_NAMES)]
_Prompt = Annotated[tuple[Message, ...], Field(min_length=1, max_length=MAX_MESSAGES)]


def _small(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise ValueError("the schema is too large")
    return schema


_Schema = Annotated[dict[str, JsonValue], AfterValidator(_small)]


class HandedIn(Wire):
    """An answer, as the child sends it."""

    text: str = Field(max_length=MAX_TEXT_BYTES)
    json_text: str | None = Field(alias="json", max_length=MAX_JSON_CHARS)
    by: Literal["FINAL", "FINAL_VAR", "answer"]

    def value(self) -> FinalValue:
        """The answer as the engine takes it."""
        return FinalValue(text=self.text, value=_lenient(self.json_text), by=self.by)


class PrintedOutput(Wire):
    """What a cell printed, already cut by the child."""

    head: str
    tail: str
    omitted: _Number

    def clipped(self, limit: int) -> Clipped:
        """The output for the engine, cut to ``limit`` characters even if the child exceeded them."""
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
    detail: str = Field(max_length=MAX_DETAIL_CHARS)


class QueryAsked(Wire):
    """One ``llm_query``, or a part of a batch."""

    op: Literal["query"]
    id: _Number
    prompts: tuple[_Prompt, ...] = Field(min_length=1, max_length=MAX_PROMPTS)
    model: str | None = Field(max_length=MAX_MODEL_CHARS)
    response_schema: _Schema | None = Field(default=None, alias="schema")
    ahead: bool = False

    @property
    def cost(self) -> int:
        """The bytes of memory that its messages and its schema take."""
        schema = len(json.dumps(self.response_schema)) * _SCHEMA_BYTES_PER_CHAR if self.response_schema else 0
        return schema + sum(
            _MESSAGE_BYTES + sys.getsizeof(message.content) for prompt in self.prompts for message in prompt
        )

    @property
    def schema_problem(self) -> str | None:
        """Why its schema cannot be used; None if it can, or if there is none."""
        if self.response_schema is None:
            return None
        if not _depth_within(self.response_schema, _MAX_DEPTH):
            return f"schema: it is nested more than {_MAX_DEPTH} levels deep"
        try:
            check_schema(self.response_schema)
        except ValueError as error:
            return f"schema: {error}"
        return None


class UploadPiece(Wire):
    """A piece of a context for children, in base64."""

    op: Literal["upload"]
    id: _Number
    data: str = Field(min_length=1, max_length=PIECE_BYTES // 3 * 4)
    last: bool


class UploadsForgotten(Wire):
    """Contexts that no further frame will name."""

    op: Literal["forget"]
    ids: tuple[_Number, ...] = Field(max_length=MAX_UPLOADS)


class ChildrenAsked(Wire):
    """One ``rlm_query`` of a job that has child jobs, or a part of a batch: a context for each prompt."""

    op: Literal["children"]
    id: _Number
    prompts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1, max_length=MAX_PROMPTS)
    contexts: tuple[_Number | Literal["own"] | None, ...] = Field(max_length=MAX_PROMPTS)
    model: str | None = Field(max_length=MAX_MODEL_CHARS)

    @property
    def cost(self) -> int:
        """The bytes of memory that its prompts take."""
        return sum(_MESSAGE_BYTES + sys.getsizeof(prompt) for prompt in self.prompts)


class ToolAsked(Wire):
    """One call of a tool; ``read_arguments`` reads the arguments."""

    op: Literal["tool"]
    id: _Number
    name: str = Field(max_length=MAX_NAME_CHARS)
    arguments: str = Field(max_length=MAX_TOOL_BYTES)

    @property
    def cost(self) -> int:
        """The bytes of memory that it takes, once its arguments are read."""
        return _MESSAGE_BYTES + _ARGUMENT_BYTES * len(self.arguments)


class CellDone(Wire):
    """A cell ended."""

    op: Literal["done"]
    cell: _Number
    output: PrintedOutput
    error: str | None = Field(max_length=MAX_ERROR_CHARS)
    final: HandedIn | None
    partial: str | None = Field(max_length=MAX_PARTIAL_BYTES)
    names: _Names
    unused: _Number = 0


class ResolvedPath(Wire):
    """The result of looking up a variable or a simple path."""

    op: Literal["resolved"]
    found: bool
    final: HandedIn | None
    names: _Names


class QueryBegun(Wire):
    """The next query of a session has begun; a line for each variable that the earlier ones left."""

    op: Literal["begun"]
    variables: tuple[Annotated[str, Field(max_length=MAX_LINE_CHARS)], ...] = Field(max_length=MAX_NAMES)


Asked = QueryAsked | ChildrenAsked
Replied = ContextReady | Broken | CellDone | ResolvedPath | QueryBegun
ChildMessage = Replied | Asked | UploadPiece | UploadsForgotten | ToolAsked
_MESSAGE: TypeAdapter[ChildMessage] = TypeAdapter(Annotated[ChildMessage, Field(discriminator="op")])


def parse(payload: bytes) -> ChildMessage:
    """The message in a frame.

    Raises:
        SandboxError: the payload is not a valid message. It may hold prompts, so the error does not show it.
    """
    if _has_too_many_values(payload):
        raise SandboxError("the REPL process sent a frame that is not valid (too many values)")
    try:
        return _MESSAGE.validate_json(payload, strict=True)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise SandboxError(f"the REPL process sent a frame that is not valid ({problem['type']})") from None


def read_arguments(text: str) -> tuple[list[JsonValue], dict[str, JsonValue]]:
    """The positional and the named arguments of a tool's call.

    Raises:
        ValueError: they are malformed, or nested too deeply.
    """
    match _lenient(text):
        case {"args": list(args), "kwargs": dict(kwargs), **rest} if not rest:
            return args, kwargs
    raise ValueError(f"the arguments must be JSON values that are nested at most {_MAX_DEPTH - 2} deep")


def _has_too_many_values(payload: bytes) -> bool:
    """Whether reading it would take far more memory than its bytes.

    It is found in little memory, and in fast steps: no other thread runs during one.
    """
    if _marks(payload) <= _MAX_MARKS:  # those in texts included
        return False
    bare = payload.replace(rb"\\", b"").replace(rb"\"", b"")  # no quote is left but those around texts
    quotes = bare.count(b'"')
    if quotes > 2 * _MAX_TOKENS:
        return True
    return (quotes + 1) // 2 + _marks(b"".join(bare.split(b'"')[::2])) > _MAX_TOKENS


def _marks(payload: bytes) -> int:
    """How many characters that come before a value it has."""
    return sum(payload.count(mark) for mark in (b"[", b"{", b","))


def _lenient(text: str | None) -> JsonValue:
    """The JSON value in ``text``; None if there is none, or if some JSON reader could not take it."""
    if text is None:
        return None
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
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
