"""One job of a batch: a line of a batch file, or a dict, in this project's form or in OpenAI's Batch form.

A native line has ``id``, ``query``, ``context`` (any JSON value) or ``context_file`` (a path, relative to the
batch file or absolute, or a URL; ``contexts.named_files`` says which are read). It may also have ``metadata``
and the fields of ``options.JobOptions``. See ``openai_batch`` for the other form.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, model_validator

from rlm_dist.client.chat_request import Reading
from rlm_dist.client.openai_batch import CustomId, OpenAILine
from rlm_dist.client.options import JobOptions, problems_of
from rlm_dist.contexts.encoding import Encoded, encode, encode_named
from rlm_dist.contexts.named_files import ContextFile, FileRules
from rlm_dist.errors import InputError

_NO_OPTIONS = JobOptions()


@dataclass(frozen=True)
class BatchItem:
    """A checked job of a batch; its context is ``value``, or the file ``context_file``.

    ``reading`` names the rule by which an OpenAI line's messages became query and context.
    """

    custom_id: str
    query: str
    options: JobOptions
    value: object = None
    context_file: ContextFile | None = None
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    form: Literal["native", "openai"] = "native"
    reading: Reading = "native"

    def encode(self) -> Encoded:
        """The item's context, ready to be stored."""
        return encode(self.value) if self.context_file is None else encode_named(self.context_file)


class _NativeLine(JobOptions):
    id: CustomId
    query: str
    context: Any = None
    context_file: str | None = Field(default=None, min_length=1)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_context(self) -> "_NativeLine":
        if self.context is None and self.context_file is None:
            raise ValueError("context or context_file is missing")
        if self.context is not None and self.context_file is not None:
            raise ValueError("context and context_file cannot both be given")
        return self


def read_item(line: object, base: Path, rules: FileRules | None = None) -> BatchItem:
    """Check one parsed line of either form; relative paths start from ``base``.

    ``rules`` say which files it may name; by default those in ``base`` and below.

    Raises:
        InputError: naming each bad field. An empty context is found only when it is encoded.
    """
    if not isinstance(line, dict):
        raise InputError(("is not a JSON object",))
    try:
        item = _openai_item(line) if {"custom_id", "body"} & line.keys() else _native_item(line, base, rules)
    except ValidationError as error:
        raise InputError(tuple(problems_of(error, _NativeLine.model_fields))) from None
    if not item.query.strip():
        raise InputError(("query: is empty",))
    return item


def _native_item(line: dict[str, Any], base: Path, rules: FileRules | None) -> BatchItem:
    native = _NativeLine.model_validate(line)
    file = None
    if native.context_file is not None:
        name = native.context_file if "://" in native.context_file else str(base / native.context_file)
        file = ContextFile(name, rules or FileRules((base,)))
    return BatchItem(
        custom_id=native.id,
        query=native.query,
        options=native.over(_NO_OPTIONS),
        value=native.context,
        context_file=file,
        metadata=native.metadata,
    )


def _openai_item(line: dict[str, Any]) -> BatchItem:
    request = OpenAILine.model_validate(line)
    body = request.body
    reading, query, context = request.read()
    return BatchItem(
        custom_id=request.custom_id,
        query=query,
        options=JobOptions(
            model=body.model,
            temperature=body.temperature,
            reasoning_effort=body.reasoning_effort,
            tier=request.tier,
            response_schema=request.response_schema,
        ),
        value=context,
        metadata=body.metadata,
        form="openai",
        reading=reading,
    )
