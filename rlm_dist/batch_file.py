"""Batch files: JSON lines, one job a line, in this project's form or in OpenAI's Batch form.

Invariant: a file is read twice, as a stream. The first pass checks every line (the contexts that it names
included) and computes the file's digest; the second yields the jobs. Memory grows with the longest line and
the number of ids, not with the file.

A native line has ``id``, ``query``, ``context`` (any JSON value) or ``context_file`` (relative to the batch
file, absolute, or an fsspec URL), and may have ``metadata`` and the fields of ``options.JobOptions``. See
``openai_batch`` for the other form. Blank lines and a byte order mark are passed over.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

from pydantic import Field, JsonValue, ValidationError, model_validator

from rlm_dist.contexts import Encoded, encode, encode_files
from rlm_dist.errors import InputError
from rlm_dist.openai_batch import IGNORED, OpenAILine
from rlm_dist.options import JobOptions, problems_of
from rlm_dist.text_files import FileText, open_text

SHOWN_PROBLEMS = 100
_KNOWN_FILES = 1024


@dataclass(frozen=True)
class BatchItem:
    """One job of a batch, checked; its context is ``value``, or lies at the path or URL ``context_file``."""

    custom_id: str
    query: str
    options: JobOptions
    value: object = None
    context_file: str | None = None
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    form: Literal["native", "openai"] = "native"

    def encode(self) -> Encoded:
        """The item's context, ready to be stored."""
        return encode(self.value) if self.context_file is None else encode_files([self.context_file])


class _NativeLine(JobOptions):
    id: str = Field(min_length=1)
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


class BatchFile:
    """A checked batch file: its ``digest``, the ``total`` of good lines, and the lines as jobs.

    ``problems`` says what is wrong with the lines that are skipped (the first hundred of them; ``bad_lines``
    is their number); ``ignored`` names fields of OpenAI bodies that have no effect here.

    Raises:
        InputError: listing the bad lines, unless ``skip_invalid``; also where no good line is left.
    """

    def __init__(
        self, path: str | Path, *, skip_invalid: bool = False, stdin: BinaryIO | None = None
    ) -> None:
        self._file = open_text(path, stdin=stdin)
        self._base = Path.cwd() if str(path) == "-" or "://" in str(path) else Path(path).absolute().parent
        self._skipped: set[int] = set()
        self.problems: list[str] = []
        self.ignored: set[str] = set()
        self.total = 0
        self.digest = self._check()
        self.bad_lines = len(self._skipped)
        if self._skipped and not skip_invalid:
            raise InputError(tuple(self.problems))
        if self.total == 0:
            raise InputError((*self.problems, f"{self._file.name}: holds no jobs"))

    def items(self) -> Iterator[BatchItem]:
        """The jobs, in the order of the file.

        Raises:
            InputError: where the file has changed since it was checked.
        """
        for number, line in _lines(self._file, lambda chunk: None):
            if number not in self._skipped:
                yield read_item(_parse(line), self._base)

    def _check(self) -> str:
        digest = hashlib.sha256()
        first_use: dict[str, int] = {}
        check_file = lru_cache(_KNOWN_FILES)(_problems_of_file)
        for number, line in _lines(self._file, digest.update):
            problems = self._check_line(number, line, first_use, check_file)
            if problems:
                self._skipped.add(number)
                self._note(f"line {number}: {'; '.join(problems)}")
            else:
                self.total += 1
        if len(self._skipped) > SHOWN_PROBLEMS:
            self.problems.append(f"… and {len(self._skipped) - SHOWN_PROBLEMS} more bad lines")
        return digest.hexdigest()

    def _check_line(
        self,
        number: int,
        line: bytes,
        first_use: dict[str, int],
        check_file: Callable[[str], tuple[str, ...]],
    ) -> tuple[str, ...]:
        try:
            parsed = _parse(line)
            item = read_item(parsed, self._base)
            if item.context_file is None:
                item.encode()
        except InputError as error:
            return error.problems
        if item.context_file is not None:
            unreadable = check_file(item.context_file)
            if unreadable:
                return unreadable
        if first_use.setdefault(item.custom_id, number) != number:
            return (f"id: {item.custom_id!r} is already used in line {first_use[item.custom_id]}",)
        if item.form == "openai":
            self.ignored |= IGNORED & parsed["body"].keys()
        return ()

    def _note(self, problem: str) -> None:
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(problem)


def read_item(line: object, base: Path) -> BatchItem:
    """Check one parsed line of either form; ``base`` is where relative paths start.

    Raises:
        InputError: naming each bad field. That the context is not empty is found when it is encoded.
    """
    if not isinstance(line, dict):
        raise InputError(("is no JSON object",))
    try:
        item = _openai_item(line) if {"custom_id", "body"} & line.keys() else _native_item(line, base)
    except ValidationError as error:
        raise InputError(tuple(problems_of(error))) from None
    if not item.query.strip():
        raise InputError(("query: is empty",))
    return item


def _native_item(line: dict[str, Any], base: Path) -> BatchItem:
    native = _NativeLine.model_validate(line)
    name = native.context_file
    return BatchItem(
        custom_id=native.id,
        query=native.query,
        options=native.over(JobOptions()),
        value=native.context,
        context_file=name if name is None or "://" in name else str(base / name),
        metadata=native.metadata,
    )


def _openai_item(line: dict[str, Any]) -> BatchItem:
    request = OpenAILine.model_validate(line)
    return BatchItem(
        custom_id=request.custom_id,
        query=request.query,
        options=JobOptions(model=request.body.model),
        value=request.context,
        metadata=request.body.metadata or {},
        form="openai",
    )


def _problems_of_file(path: str) -> tuple[str, ...]:
    try:
        encode_files([path])
    except InputError as error:
        return tuple(f"context_file: {problem}" for problem in error.problems)
    return ()


def _lines(file: FileText, seen: Callable[[bytes], object]) -> Iterator[tuple[int, bytes]]:
    number = 0
    parts: list[bytes] = []
    for chunk in file.pieces():
        seen(chunk)
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            number += 1
            line = b"".join([*parts, end])
            parts = []
            if line.strip():
                yield number, line
        parts.append(rest)
    line = b"".join(parts)
    if line.strip():
        yield number + 1, line


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InputError((f"is not UTF-8, first bad byte at offset {error.start} of the line",)) from None
    except RecursionError:
        raise InputError(("is nested too deeply",)) from None
    except json.JSONDecodeError as error:
        raise InputError((f"is not JSON: {error.msg} at character {error.pos + 1}",)) from None
    except ValueError as error:  # NaN, or an integer of thousands of digits
        raise InputError((f"is not JSON: {error}",)) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
