"""A question with a known answer over a context, and files of them.

The file is JSON lines, one item a line with the fields of ``TaskItem``. A line without ``context`` has the
context of the line before it, so that the questions of one window store it once.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line
from rlm_dist.schema import CHARS_PER_TOKEN
from rlm_dist.schema.base import Wire

_ID_CHARS = 12


class ScorerName(StrEnum):
    """How an answer is compared with what is expected; see ``scorers``."""

    FOUND = "found"
    OOLONG = "oolong"
    PAIRS_F1 = "pairs_f1"
    EXACT = "exact"
    CHOICE = "choice"
    NUMBER = "number"
    IDS = "ids"


class TaskItem(Wire):
    """One question of a task.

    ``expected`` has the right answer; several texts mean what the scorer says: all of them (``found``,
    ``pairs_f1``, ``ids``), any of them (``exact``, ``number``) or the first (``oolong``, ``choice``).
    ``tokens`` is the length that was asked for. ``meta`` has what a report groups by; ``oolong`` reads
    ``answer_type``.
    """

    id: str = Field(min_length=1)
    task: str = Field(min_length=1)
    context: str | list[str]
    query: str = Field(min_length=1)
    expected: tuple[str, ...]
    scorer: ScorerName
    tokens: int = Field(ge=0)
    meta: dict[str, JsonValue] = Field(default={})


def tokens_of(text: str) -> int:
    """The estimated tokens of a text, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)


def digest_of(*parts: str) -> str:
    """A short hash of the parts, in this order."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(encoded))
        hashed.update(encoded)
    return hashed.hexdigest()[:_ID_CHARS]


def item_id(task: str, context_digest: str, query: str, expected: Iterable[str]) -> str:
    """The id of a question: equal for equal questions, so that a run can be taken up again."""
    return f"{task}-{digest_of(context_digest, query, *expected)}"


def write_items(path: Path, items: Iterable[TaskItem]) -> int:
    """Write the items, one at a time, and return how many there were."""
    count = 0
    before: str | list[str] | None = None
    with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
        for item in items:
            same = before is not None and item.context == before
            before = item.context
            record = item.model_dump(mode="json", exclude={"context"} if same else None)
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_items(path: Path) -> Iterator[TaskItem]:
    """Read the items of a file, one at a time.

    Raises:
        InputError: the file cannot be read, or a line is no item; the line is named.
    """
    context: str | list[str] | None = None
    for number, record in numbered_records(path):
        if isinstance(record, InputError):
            raise at_line(path, number, record)
        if context is not None:
            record.setdefault("context", context)
        try:
            item = TaskItem.model_validate(record)
        except ValidationError as error:
            raise at_line(path, number, InputError((problem_of(error),))) from None
        context = item.context
        yield item


def numbered_records(path: Path) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """Yield number and object of each line that is not blank; an error in place of the object if it has none.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _record(line)
    except OSError as error:
        raise InputError((f"{one_line(str(path))}: {error.strerror}",)) from None


def _record(line: bytes) -> dict[str, Any] | InputError:
    try:
        record = json.loads(line.decode("utf-8-sig", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        kind = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
        return InputError((kind,))
    if not isinstance(record, dict):
        return InputError(("not a JSON object",))
    return record


def at_line(path: Path, number: int, error: InputError) -> InputError:
    """The error of a line, with the line named."""
    return InputError((f"{one_line(str(path))}: line {number}: {'; '.join(error.problems)}",))


def problem_of(error: ValidationError) -> str:
    """What is wrong, without the values: these may be long or secret."""
    return "; ".join(
        ": ".join(
            [
                *filter(None, [".".join(map(str, problem["loc"]))]),
                problem["msg"].removeprefix("Value error, "),
            ]
        )
        for problem in error.errors(include_input=False, include_url=False)
    )
