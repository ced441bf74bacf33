"""Batches, checked as a whole before anything is submitted: a JSON lines file, or a list of dicts.

Invariant: a file is read twice, as a stream. The first pass checks every line (and the context that it names)
and computes the file's digest; the second yields the jobs. Memory grows with the longest line, which is
bounded, and the number of ids, not with the size of the file. Blank lines and a byte order mark are skipped.
``batch_formats`` says what is read besides plain JSON lines.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from rlm_dist.client.batch_formats import BatchBytes, json_lines
from rlm_dist.client.batch_item import BatchItem, read_item
from rlm_dist.client.ceilings import check_ceilings
from rlm_dist.client.openai_batch import without_effect
from rlm_dist.client.options import JobOptions
from rlm_dist.contexts.encoding import check_value, reading_files
from rlm_dist.contexts.named_files import FileRules
from rlm_dist.contexts.text_files import open_text
from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line
from rlm_dist.settings import Settings

SHOWN_PROBLEMS = 100
MAX_LINE_BYTES = 256 * 1024 * 1024


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class _Checklist:
    """Counts the good jobs, and lists the problems of the first hundred bad ones."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._first_use: dict[str, int] = {}
        self._messages: list[str] = []
        self.good = 0
        self.deepest = 0
        self.bad: set[int] = set()

    def check(self, number: int, read: Callable[[], BatchItem]) -> BatchItem | None:
        """Read a job and check that its id is unique; if the job is bad, note why and return None."""
        try:
            item = read()
            first = self._first_use.setdefault(item.custom_id, number)
            if first != number:
                name = "custom_id" if item.form == "openai" else "id"
                raise InputError((f"{name}: {item.custom_id!r} is already used in {self._noun} {first}",))
        except InputError as error:
            self.bad.add(number)
            if len(self._messages) < SHOWN_PROBLEMS:
                self._messages.append(one_line(f"{self._noun} {number}: {'; '.join(error.problems)}"))
            return None
        self.good += 1
        self.deepest = max(self.deepest, item.options.max_depth or 0)
        return item

    def problems(self) -> tuple[str, ...]:
        """One message for each of the first hundred bad jobs, and one that counts the others."""
        more = len(self.bad) - len(self._messages)
        return (*self._messages, f"… and {more} more bad {self._noun}s") if more else tuple(self._messages)


class BatchFile:
    """A checked batch file: its ``digest``, the ``total`` of good lines, and the lines as jobs.

    ``deepest`` is the largest ``max_depth`` that a line sets, 0 if none does.

    ``problems`` says what is wrong with the first hundred bad lines, which are skipped; ``bad_lines`` counts
    all of them. ``ignored`` names the fields of OpenAI bodies that have no effect here. ``rules`` say which
    context files the lines may name, see ``file_rules``; a line that asks for more than ``ceilings`` is bad.
    ``see`` gets the job of each good line.

    Raises:
        InputError: listing the bad lines, unless ``skip_invalid``; also if no good line remains, and as soon
            as a line has more than ``MAX_LINE_BYTES``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        skip_invalid: bool = False,
        stdin: BinaryIO | None = None,
        rules: FileRules | None = None,
        ceilings: JobOptions | None = None,
        see: Callable[[BatchItem], object] = lambda item: None,
    ) -> None:
        self._file = json_lines(open_text(path, stdin=stdin, watching=_bounding_lines), path)
        self._base = base_of(path)
        self._rules = rules
        self._ceilings = ceilings
        self.ignored: set[str] = set()
        self._read_file = reading_files(lambda _: None)
        checklist = _Checklist("line")
        digest = hashlib.sha256()
        for number, line in _lines(self._file, digest.update):
            item = checklist.check(number, lambda line=line: self._checked(line))  # type: ignore[misc]  # bound now
            if item is not None:
                see(item)
        self._skipped = checklist.bad
        self.problems = checklist.problems()
        self.bad_lines = len(checklist.bad)
        self.total = checklist.good
        self.deepest = checklist.deepest
        self.digest = digest.hexdigest()
        if self.problems and not skip_invalid:
            raise InputError(self.problems)
        if self.total == 0:
            raise InputError((*self.problems, f"{one_line(self._file.name)}: holds no jobs"))

    def items(self) -> Iterator[BatchItem]:
        """The jobs, in the order of the file.

        Raises:
            InputError: if the file has changed since it was checked.
        """
        for number, line in _lines(self._file, lambda chunk: None):
            if number not in self._skipped:
                yield read_item(_parse(line), self._base, self._rules)

    def _checked(self, line: bytes) -> BatchItem:
        parsed = _parse(line)
        item = read_item(parsed, self._base, self._rules)
        if self._ceilings is not None:
            check_ceilings(item, self._ceilings)
        if item.context_file is None:
            check_value(item.value)
        else:
            self._read_file(item.context_file)
        if item.form == "openai":
            self.ignored |= without_effect(parsed)
        return item


class BatchList:
    """A checked list of jobs, each a dict like a line of a batch file.

    Relative paths start from the working directory. ``rules`` and ``ceilings`` are as for a ``BatchFile``.

    Raises:
        InputError: listing the bad items, counted from 0; also if there are no items.
    """

    def __init__(
        self,
        lines: Iterable[Mapping[str, Any]],
        *,
        rules: FileRules | None = None,
        ceilings: JobOptions | None = None,
    ) -> None:
        checklist = _Checklist("item")
        digest = hashlib.sha256()
        self._items: list[BatchItem] = []

        def read(line: Mapping[str, Any]) -> BatchItem:
            fields = dict(line) if isinstance(line, Mapping) else line
            item = read_item(fields, Path.cwd(), rules)
            if ceilings is not None:
                check_ceilings(item, ceilings)
            digest.update(_fingerprint(fields, item))
            return item

        for number, line in enumerate(lines):
            item = checklist.check(number, lambda line=line: read(line))  # type: ignore[misc]  # bound now
            if item is not None:
                self._items.append(item)
        if checklist.bad:
            raise InputError(checklist.problems())
        if not self._items:
            raise InputError(("the batch holds no jobs",))
        self.total = len(self._items)
        self.deepest = checklist.deepest
        self.digest = digest.hexdigest()

    def items(self) -> Iterator[BatchItem]:
        """The jobs, in the order of the list."""
        return iter(self._items)


def base_of(path: str | Path) -> Path:
    """The folder from which the relative paths in a batch file start."""
    return Path.cwd() if str(path) == "-" or "://" in str(path) else Path(path).absolute().parent


def file_rules(path: str | Path, settings: Settings, context_root: str | Path | None) -> FileRules:
    """The rules for a batch's context files: below its folder or ``context_root``, or at allowed URLs.

    A batch from standard input has the working directory, one from a URL has no folder.

    Raises:
        InputError: if ``context_root`` is not a folder.
    """
    root = None if context_root is None else Path(context_root).expanduser().absolute()
    if root is not None and not root.is_dir():
        raise InputError((f"context root {one_line(str(root))}: is not a folder",))
    folders = () if "://" in str(path) else (base_of(path),)
    if root is not None:
        folders = (*folders, root)
    return FileRules(folders, settings.context_urls, settings.max_context_bytes)


def _fingerprint(line: Mapping[str, Any], item: BatchItem) -> bytes:
    """Bytes that are equal for two items only if they are the same job.

    They are made of what the caller gave, so that a release which reads a line differently, or knows more
    options, still takes it for the same.
    """
    context = item.encode().ref.sha256
    given = {name: value for name, value in line.items() if name not in ("context", "context_file")}
    of_native = context if item.form == "native" else None  # an OpenAI line's is part of its body
    return json.dumps([of_native, given], sort_keys=True, default=str).encode()


def _bounding_lines(name: str) -> Callable[[bytes], None]:
    """A function that is given a file's bytes in pieces, and raises as soon as a line is too long."""
    number, size = 1, 0

    def watch(chunk: bytes) -> None:
        nonlocal number, size
        position = 0
        while position < len(chunk):
            end = chunk.find(b"\n", position)
            size += (len(chunk) if end < 0 else end) - position
            if size > MAX_LINE_BYTES:
                problem = f"has more than {MAX_LINE_BYTES:,} bytes; put its context into a file of its own"
                raise InputError((f"{one_line(name)}: line {number}: {problem}, named by context_file",))
            if end < 0:
                return
            number, size, position = number + 1, 0, end + 1

    return watch


def _lines(file: BatchBytes, on_chunk: Callable[[bytes], object]) -> Iterator[tuple[int, bytes]]:
    number = 0
    parts: list[bytes] = []
    watch = _bounding_lines(file.name)
    for chunk in file.pieces():
        watch(chunk)
        on_chunk(chunk)
        *line_ends, rest = chunk.split(b"\n")
        for end in line_ends:
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
        return _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise InputError((f"is not UTF-8, first bad byte at offset {error.start} of the line",)) from None
    except RecursionError:
        raise InputError(("is nested too deeply",)) from None
    except json.JSONDecodeError as error:
        raise InputError((f"is not JSON: {error.msg} at character {error.pos + 1}",)) from None
    except ValueError as error:  # NaN, or an integer of thousands of digits
        raise InputError((f"is not JSON: {error}",)) from None
