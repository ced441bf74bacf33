"""A prompt family from a file: the texts before the first reply, checked.

The file has the keys ``system`` and ``task``, and may have ``examples``, each of ``user`` and ``assistant``,
and ``program``, code that runs before the root model is asked. ``task`` has the placeholders ``{context}``
and ``{query}``; other braces stay as they are.
"""

import hashlib
import re
from collections.abc import Iterator

from pydantic import Field, ValidationError, field_validator

from rlm_dist.errors import SettingsError
from rlm_dist.schema import Wire

MAX_FILE_BYTES = 256 * 1024
_PLACEHOLDER = re.compile(r"\{(context|query)\}")
# Without these words in it a system prompt leaves the model no way to work or to answer.
_NEEDED_WORDS = ("context", "repl", "llm_query", "FINAL")


def _is_empty(text: str) -> bool:
    return not text


class PromptExample(Wire):
    """A worked example: a question and the reply to it."""

    user: str = Field(min_length=1)
    assistant: str = Field(min_length=1)


class PromptTexts(Wire):
    """A family: the system prompt, the examples, the form of the first message, and what runs first."""

    system: str
    task: str
    examples: tuple[PromptExample, ...] = ()
    program: str = Field(default="", exclude_if=_is_empty)

    @field_validator("system")
    @classmethod
    def _usable(cls, value: str) -> str:
        missing = [word for word in _NEEDED_WORDS if word not in value]
        if missing:
            raise ValueError(f"does not mention {', '.join(missing)}")
        return value

    @field_validator("task")
    @classmethod
    def _fillable(cls, value: str) -> str:
        missing = [f"{{{name}}}" for name in ("context", "query") if f"{{{name}}}" not in value]
        if missing:
            raise ValueError(f"has no placeholder {' and no '.join(missing)}")
        return value

    @property
    def sha256(self) -> str:
        """What tells these texts from others."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def fill(self, *, context: str, query: str) -> str:
        """The first message: the description of the context and the query in their places, as they are."""
        values = {"context": context, "query": query}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.task)


def check_family(table: object, source: str) -> PromptTexts:
    """The family in a parsed file.

    Raises:
        SettingsError: naming each key that is missing, unknown or unusable.
    """
    try:
        return PromptTexts.model_validate(table)
    except ValidationError as error:
        raise SettingsError(tuple(_problems(error, source))) from None


def _problems(error: ValidationError, source: str) -> Iterator[str]:
    for item in error.errors(include_input=False):
        place = ": ".join([source, *map(str, item["loc"])])
        if item["type"] == "missing":
            yield f"{place}: is missing"
        elif item["type"] == "extra_forbidden":
            yield f"{place}: is not known"
        elif item["type"] == "model_type":
            yield f"{place}: must be a table of texts"
        else:
            message = item["msg"].removeprefix("Value error, ")
            yield f"{place}: {message[0].lower()}{message[1:]}"
