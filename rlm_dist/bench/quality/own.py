"""A user's own tasks: JSON lines of a context, a query, what is expected, and the scorer that compares.

Fields of a line: ``context`` (a text or a list of texts) or ``context_file`` (a path from the folder of the
file), ``query``, ``expected`` (a text or a list), and optionally ``scorer`` (``exact``), ``id``, ``task``
(``own``) and ``meta``. A file is read twice: first all lines are checked, then the items come one at a time.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from rlm_dist.bench.quality.items import (
    ScorerName,
    TaskItem,
    at_line,
    digest_of,
    item_id,
    numbered_records,
    problem_of,
    tokens_of,
)
from rlm_dist.bench.quality.scorers import AnswerType
from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line

TASK = "own"
SHOWN_PROBLEMS = 100


class OwnLine(BaseModel):
    """A line of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: str | list[str] | None = Field(default=None, min_length=1)
    context_file: Path | None = None
    query: str = Field(min_length=1)
    expected: str | list[str]
    scorer: ScorerName = ScorerName.EXACT
    id: str | None = Field(default=None, min_length=1)
    task: str = Field(default=TASK, min_length=1)
    meta: dict[str, JsonValue] = Field(default={})

    @property
    def golds(self) -> tuple[str, ...]:
        """What is expected, as a sequence."""
        return (self.expected,) if isinstance(self.expected, str) else tuple(self.expected)

    @model_validator(mode="after")
    def _fits(self) -> "OwnLine":
        if (self.context is None) == (self.context_file is None):
            raise ValueError("give either context or context_file")
        if problem := _unfit(self):
            raise ValueError(problem)
        return self


def _unfit(line: OwnLine) -> str | None:
    """Why the scorer cannot use what is expected, or None."""
    if not line.golds and line.scorer is not ScorerName.PAIRS_F1:
        return "expected is empty"
    match line.scorer:
        case ScorerName.CHOICE if line.golds[0] not in ("A", "B", "C", "D"):
            return "the scorer choice expects A, B, C or D"
        case ScorerName.NUMBER if not all(map(_is_number, line.golds)):
            return "the scorer number expects numbers"
        case ScorerName.OOLONG if line.meta.get("answer_type") not in set(AnswerType):
            return f"the scorer oolong needs answer_type in meta: {', '.join(AnswerType)}"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def read_own(path: Path) -> Iterator[TaskItem]:
    """Check the whole file, then yield its items.

    Raises:
        InputError: the file cannot be read or has no tasks, or lines are bad; these are listed by number.
    """
    problems: list[str] = []
    lines_of_id: dict[str, int] = {}
    good = 0
    for number, record in numbered_records(path):
        try:
            item = _item(_line(record), path)
            first = lines_of_id.setdefault(item.id, number)
            if first != number:
                raise InputError((f"id: is already that of line {first}",))
            good += 1
        except InputError as error:
            problems.extend(at_line(path, number, error).problems)
    if not good and not problems:
        problems.append(f"{one_line(str(path))}: has no tasks")
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        shown = problems[:SHOWN_PROBLEMS]
        raise InputError((*shown, f"… and {more} more bad lines") if more > 0 else tuple(shown))
    return (_item(_line(record), path) for _, record in numbered_records(path))


def _line(record: dict[str, Any] | InputError) -> OwnLine:
    if isinstance(record, InputError):
        raise record
    try:
        return OwnLine.model_validate(record)
    except ValidationError as error:
        raise InputError((problem_of(error),)) from None


def _item(line: OwnLine, path: Path) -> TaskItem:
    context = _context(line, path.parent)
    texts = [context] if isinstance(context, str) else context
    return TaskItem(
        id=line.id or item_id(line.task, digest_of(*texts), line.query, line.golds),
        task=line.task,
        context=context,
        query=line.query,
        expected=line.golds,
        scorer=line.scorer,
        tokens=sum(map(tokens_of, texts)),
        meta=line.meta,
    )


def _context(line: OwnLine, folder: Path) -> str | list[str]:
    if line.context_file is None:
        assert line.context is not None  # checked by the model
        return line.context
    try:
        text = (folder / line.context_file).read_text("utf-8")
    except OSError as error:
        raise InputError((f"context_file: {one_line(str(line.context_file))}: {error.strerror}",)) from None
    except UnicodeDecodeError:
        raise InputError((f"context_file: {one_line(str(line.context_file))}: is not UTF-8",)) from None
    if not text:
        raise InputError((f"context_file: {one_line(str(line.context_file))}: is empty",))
    return text
