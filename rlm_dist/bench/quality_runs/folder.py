"""The folder of a run.

| file | what it holds |
|---|---|
| `run.json` | a ``RunRecord``: what was asked for, and the id that the batches' ids begin with |
| `items.jsonl` | the items, see ``bench.quality.items`` |
| `pilot-items.jsonl` | those of the pilot, if the method ``auto`` is in the run |
| `results.jsonl`, `pilot.jsonl` | a ``QualityRow`` for each job that has ended, in this order |
| `router.json` | the threshold that the pilot gave, a ``Router`` |
| `batches.json` | a ``BatchSummary`` for each batch that has ended |
| `report.json`, `*.svg` | the report |

Invariant: each file is whole or not there, but for the files of rows. Of these a last line that was cut off
is dropped, and its job is looked up again. One process writes at a time.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from rlm_dist.bench.quality.items import TaskItem, read_items, write_items
from rlm_dist.bench.quality_runs.models import RootModel
from rlm_dist.bench.quality_runs.rows import QualityRow
from rlm_dist.bench.quality_runs.tasks import TaskChoice, make_items
from rlm_dist.errors import InputError
from rlm_dist.local.file_lock import locked
from rlm_dist.one_line import one_line
from rlm_dist.schema.base import Wire

FORMAT = 1
W = TypeVar("W", bound=Wire)


class RunRecord(Wire):
    """What a run was asked for; equal for two commands but for ``id`` and ``version``, or they are two runs.

    ``options`` are those of all jobs, ``settings`` the settings that change answers, without secrets.
    """

    format: int = FORMAT
    id: str = Field(default_factory=lambda: f"q{secrets.token_hex(5)}")
    version: str = Field(default_factory=lambda: metadata.version("rlm-dist"))
    choice: TaskChoice
    methods: tuple[str, ...]
    root: RootModel
    options: dict[str, JsonValue] = Field(default={})
    settings: dict[str, JsonValue] = Field(default={})


class BatchSummary(Wire):
    """A batch that has ended: its id, the role and name of each model that it asked, and its cost in USD."""

    batch_id: str
    models: tuple[str, ...]
    cost: float | None


class RunFolder:
    """The files of a run; see the module."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one who writes.

        Raises:
            InputError: if another process does.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path / ".lock", timeout_s=0):
                yield
        except TimeoutError:
            raise InputError((f"{self._shown}: another process works on this run",)) from None
        except OSError as error:
            raise InputError((f"{self._shown}: {error.strerror}",)) from None

    def begin(self, wanted: RunRecord) -> RunRecord:
        """The record of the run; if the folder has none, its items are made and it is stored.

        Raises:
            InputError: if the items cannot be made, or the folder has a run of another command; it names
                what differs.
        """
        if not (self.path / "run.json").exists():
            for left in ("items.jsonl", "pilot-items.jsonl"):  # of a command that ended before its record
                (self.path / left).unlink(missing_ok=True)
            self.items_file(wanted.choice)
            self._write("run.json", wanted.model_dump_json(indent=1))
            return wanted
        record = self.record()
        problems = [
            f"{self._shown}: this run has {name} {_shown_value(before)}, and not {_shown_value(now)}"
            for name, before, now in _differences(record, wanted)
        ]
        if problems:
            raise InputError((*problems, "take it up with the same options, or begin another one with -o"))
        return record

    def record(self) -> RunRecord:
        """The record of the run.

        Raises:
            InputError: if there is none.
        """
        return self._read("run.json", RunRecord)

    def items_file(self, choice: TaskChoice, name: str = "items.jsonl") -> Path:
        """The file of the items, made now if it does not exist."""
        path = self.path / name
        if not path.exists():
            draft = path.with_suffix(".part")
            if not write_items(draft, make_items(choice)):
                raise InputError(("the tasks gave no items",))
            draft.replace(path)
        return path

    def items(self) -> Iterator[TaskItem]:
        """The items of the run."""
        return read_items(self.path / "items.jsonl")

    def rows(self, name: str = "results.jsonl") -> list[QualityRow]:
        """The rows up to now; a last line that is not whole is left out."""
        path = self.path / name
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]
        try:
            return [QualityRow.model_validate_json(line) for line in lines]
        except ValidationError:
            raise InputError((f"{one_line(str(path))}: has a line that is no result",)) from None

    @contextmanager
    def adding(self, name: str = "results.jsonl") -> Iterator["RowWriter"]:
        """A function that adds a row to a file of rows, after its last whole line."""
        with (self.path / name).open("ab+") as file:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            yield RowWriter(file.fileno())

    def batches(self) -> dict[str, BatchSummary]:
        """The batches that have ended, by method."""
        path = self.path / "batches.json"
        if not path.exists():
            return {}
        return TypeAdapter(dict[str, BatchSummary]).validate_json(path.read_bytes())

    def add_batch(self, method: str, summary: BatchSummary) -> None:
        """Note that a batch has ended."""
        known: Mapping[str, BatchSummary] = {**self.batches(), method: summary}
        document = {name: each.model_dump() for name, each in known.items()}
        self._write("batches.json", json.dumps(document, indent=1))

    def read_value(self, name: str, kind: type[W]) -> W | None:
        """The value in a file, None if there is no such file."""
        return self._read(name, kind) if (self.path / name).exists() else None

    def write_value(self, name: str, value: Wire) -> None:
        """Write a value as a file."""
        self._write(name, value.model_dump_json(indent=1))

    def _write(self, name: str, text: str) -> None:
        draft = self.path / f"{name}.part"
        draft.write_text(text + "\n", "utf-8")
        draft.replace(self.path / name)

    def _read(self, name: str, kind: type[W]) -> W:
        try:
            return kind.model_validate_json((self.path / name).read_bytes())
        except OSError:
            raise InputError((f"{self._shown}: holds no run of bench quality",)) from None
        except ValidationError:
            raise InputError((f"{self._shown}: {name} is not of this version of rlm-dist",)) from None

    @property
    def _shown(self) -> str:
        return one_line(str(self.path))


class RowWriter:
    """Adds rows to a file, each at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, row: QualityRow) -> None:
        """Add one row."""
        os.write(self._descriptor, row.model_dump_json().encode() + b"\n")


def _differences(before: RunRecord, now: RunRecord) -> Iterator[tuple[str, Any, Any]]:
    def flat(record: RunRecord) -> dict[str, Any]:
        document = record.model_dump(mode="json", exclude={"id", "version"})
        parts = {name: document.pop(name) for name in ("choice", "root", "options", "settings")}
        return {**document, **{name: value for part in parts.values() for name, value in part.items()}}

    old, new = flat(before), flat(now)
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def _shown_value(value: Any) -> str:
    return one_line(json.dumps(value))[:200]
