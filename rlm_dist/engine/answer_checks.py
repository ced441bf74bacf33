"""Checks an answer before it is accepted: its form here, all else by a function that is passed in.

An answer that misses the form, or that is refused for another reason, is no answer: the model reads why and
goes on. After ``MOST_REFUSED`` such answers the job ends.

What the schema says is computed again when a job is replayed; the verdicts of the function are journaled. The
same value is reviewed once in a job: handed in again, it is refused again for the same reason.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import JsonValue

from rlm_dist.engine.journal import Journal
from rlm_dist.engine.parsing.json_values import read_json
from rlm_dist.engine.parsing.syntax import literal_of
from rlm_dist.json_schemas import JsonSchema, problems
from rlm_dist.schema import FinalValue, JobSpec

MOST_REFUSED = 3
_MAX_REASON_CHARS = 2000
_MAX_LITERAL_CHARS = 100_000
_TOO_DEEP = "the value is nested too deeply"

Refuser = Literal["schema", "quote_check", "validator", "judge"]


class Refusal(NamedTuple):
    """Why an answer was refused, and by what; the reason may quote the answer."""

    by: Refuser
    reason: str


Review = Callable[[JsonValue, int], Refusal | None]
"""Looks at the value of an answer in a turn; returns why it is refused, or None."""


class AnswersRefused(Exception):
    """``MOST_REFUSED`` answers were refused, so the job ends; ``by`` says what refused the last one."""

    def __init__(self, by: Refuser) -> None:
        super().__init__(by)
        self.by = by

    def __str__(self) -> str:
        return (
            f"{MOST_REFUSED} answers were refused, the last one by the {self.by}; the trace has the reasons"
        )


class AnswerChecks:
    """The checks of one job's answers; ``review`` makes those that take more than the value itself."""

    def __init__(self, spec: JobSpec, journal: Journal, review: Review | None) -> None:
        self._schema = spec.response_schema
        self._journal = journal
        self._review = review
        self._verdicts: dict[str, Refusal | None] = {}
        self._refused = 0

    @property
    def active(self) -> bool:
        """Whether an answer may be refused."""
        return self._schema is not None or self._review is not None

    def check(self, answer: FinalValue, turn: int) -> FinalValue | Refusal:
        """The answer in the form that was asked for, or why it is refused.

        Raises:
            AnswersRefused: if it is the last one that may be refused.
            RLMError: if it could not be reviewed.
        """
        checked = answer if self._schema is None else conform(self._schema, answer)
        if isinstance(checked, FinalValue) and self._review is not None:
            checked = self._reviewed(self._review, checked, turn) or checked
        if isinstance(checked, Refusal):
            self._refused += 1
            if self._refused >= MOST_REFUSED:
                raise AnswersRefused(checked.by)
        return checked

    def _reviewed(self, review: Review, answer: FinalValue, turn: int) -> Refusal | None:
        value = answer.text if answer.value is None and self._schema is None else answer.value
        digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()
        if digest not in self._verdicts:
            by, reason = self._journal.verdict(turn, digest, lambda: _cut(review(value, turn)))
            # the journal is our own, so what it says is one of these
            self._verdicts[digest] = Refusal(by, reason) if by else None  # type: ignore[arg-type]
        return self._verdicts[digest]


def conform(schema: JsonSchema, answer: FinalValue) -> FinalValue | Refusal:
    """The answer with a value that conforms to ``schema`` and its JSON as the text, or why there is none.

    A str that holds JSON, also in one fence, or a dict or list as Python writes it, counts as that value. If
    the schema asks for a string, the str itself is the value; its text then stays as it is.
    """
    text, value, by = answer
    if value is not None:
        return _judged([value], schema, by)
    try:
        parsed = _read_value(text)
    except RecursionError:
        return Refusal("schema", _TOO_DEEP)
    except ValueError as error:
        refused = Refusal("schema", f"the answer is not JSON: {error}")
        fits = _judged([text], schema, by)
        return refused if isinstance(fits, Refusal) and schema.get("type") != "string" else fits
    return _judged([text, parsed] if schema.get("type") == "string" else [parsed, text], schema, by)


def _read_value(text: str) -> JsonValue:
    """The JSON value of a text, or that of a dict or list that is written as in Python."""
    try:
        return read_json(text)
    except ValueError:
        literal = text.strip()
        if not literal.startswith(("{", "[")) or len(literal) > _MAX_LITERAL_CHARS:
            raise
        try:
            value: JsonValue = json.loads(json.dumps(literal_of(literal), allow_nan=False))
        except (ValueError, TypeError, SyntaxError, MemoryError):
            value = None
        if value is None:
            raise
        return value


def _judged(values: list[JsonValue], schema: JsonSchema, by: Literal["FINAL", "FINAL_VAR", "answer"]) -> (
    FinalValue | Refusal
):  # fmt: skip
    """The first value that conforms, or what is wrong with the first."""
    try:
        wrong = [problems(schema, value) for value in values]
    except RecursionError:
        return Refusal("schema", _TOO_DEEP)
    for value, found in zip(values, wrong, strict=True):
        if not found:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            return FinalValue(text, value, by)
    return Refusal("schema", "\n".join(f"- {line}" for line in wrong[0]))


def _cut(refusal: Refusal | None) -> tuple[str, str]:
    if refusal is None:
        return "", ""
    reason = refusal.reason.encode("utf-8", "replace").decode("utf-8").strip()
    return refusal.by, reason if len(reason) <= _MAX_REASON_CHARS else reason[:_MAX_REASON_CHARS] + " …"
