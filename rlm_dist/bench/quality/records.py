"""Counting and filtering records: what code does exactly, over texts that no window holds.

A context has one record a line in one of three layouts: ``log`` (``time level=… service=… …``), ``csv`` with
a header, or ``json`` lines. Each record has a time, level, service, region, milliseconds, user, request id
and a message. Messages name levels and services, too, so a search for the bare word counts too much.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from rlm_dist.bench.quality.items import ScorerName, TaskItem, digest_of, item_id
from rlm_dist.errors import InputError
from rlm_dist.schema import CHARS_PER_TOKEN

COUNT, FILTER = "count", "filter"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_LEVEL_WEIGHTS = (4, 10, 3, 2)
_SERVICES = ("billing", "catalog", "delivery", "login", "payments", "search")
_REGIONS = ("eu-west", "us-east", "ap-south")
_MESSAGES = (
    "request served",
    "retry after an ERROR of {service}",
    "waiting for {service}",
    "cache miss; asked {service}",
    "INFO level set by operator",
    "WARNING threshold of {service} is near",
)
_BEGINNING = datetime(2025, 3, 1)
_MEAN_STEP_S = 20
_MEAN_MS = 180
_MOST_FOUND = 6  # ids that a filter finds
_TRIES = 1000


class Record(NamedTuple):
    """One line of a context."""

    time: str
    level: str
    service: str
    region: str
    ms: int
    user: str
    request: str
    message: str


def _log_line(record: Record) -> str:
    return (
        f"{record.time} level={record.level} service={record.service} region={record.region} "
        f'ms={record.ms} user={record.user} request={record.request} msg="{record.message}"'
    )


def _csv_line(record: Record) -> str:
    return ",".join(map(str, record))


def _json_line(record: Record) -> str:
    return json.dumps(record._asdict())


class RecordLayout(NamedTuple):
    """How records are written: the lines before them, and each of them."""

    header: tuple[str, ...]
    line: Callable[[Record], str]


LAYOUTS: Mapping[str, RecordLayout] = MappingProxyType(
    {
        "log": RecordLayout((), _log_line),
        "csv": RecordLayout((",".join(Record._fields),), _csv_line),
        "json": RecordLayout((), _json_line),
    }
)


class _RecordQuestion(NamedTuple):
    kind: str
    text: str
    records: list[Record]  # those that meet its conditions


def make_counts(*, tokens: int, count: int, seed: int) -> Iterator[TaskItem]:
    """Yield questions on how many records meet one or two conditions; the layouts take turns.

    Raises:
        InputError: the length has no room for enough records.
    """
    return _make(COUNT, _counting, tokens, count, seed)


def make_filters(*, tokens: int, count: int, seed: int) -> Iterator[TaskItem]:
    """Yield questions on which records meet two or three conditions: one to six do.

    Raises:
        InputError: the length has no room for enough records.
    """
    return _make(FILTER, _filtering, tokens, count, seed)


def _make(
    task: str,
    ask: Callable[[Sequence[Record], random.Random, int], _RecordQuestion | None],
    tokens: int,
    count: int,
    seed: int,
) -> Iterator[TaskItem]:
    names = tuple(LAYOUTS)
    for number in range(count):
        rng = random.Random(f"records/{task}/{seed}/{tokens}/{number}")
        layout = names[number % len(names)]
        records, context = _context(LAYOUTS[layout], tokens, rng)
        question = next(filter(None, (ask(records, rng, number) for _ in range(_TRIES))), None)
        if question is None:
            raise InputError((f"length: {tokens} tokens have no room for enough records",))
        yield _item(task, question, context, tokens, layout)


def _context(layout: RecordLayout, tokens: int, rng: random.Random) -> tuple[list[Record], str]:
    """As many records as fill the length, and the text that holds them."""
    room = tokens * CHARS_PER_TOKEN - sum(len(line) + 1 for line in layout.header)
    records: list[Record] = []
    lines = list(layout.header)
    requests = iter(rng.sample(range(100_000, 1_000_000), max(1, min(room // 60 + 1, 900_000))))
    users = [f"u{number}" for number in rng.sample(range(1000, 10_000), 400)]
    time = _BEGINNING
    for request in requests:
        time += timedelta(seconds=1 + int(rng.expovariate(1 / _MEAN_STEP_S)))
        record = Record(
            time=time.isoformat(),
            level=rng.choices(LEVELS, _LEVEL_WEIGHTS)[0],
            service=rng.choice(_SERVICES),
            region=rng.choice(_REGIONS),
            ms=5 + int(rng.expovariate(1 / _MEAN_MS)),
            user=rng.choice(users),
            request=f"REQ-{request}",
            message=rng.choice(_MESSAGES).format(service=rng.choice(_SERVICES)),
        )
        line = layout.line(record)
        room -= len(line) + 1
        if room < 0:
            break
        records.append(record)
        lines.append(line)
    return records, "\n".join(lines)


def _counting(records: Sequence[Record], rng: random.Random, number: int) -> _RecordQuestion | None:
    level, service, region = rng.choice(LEVELS), rng.choice(_SERVICES), rng.choice(_REGIONS)
    ms = 50 * rng.randint(2, 12)
    match number % 4:
        case 0:
            found = [r for r in records if r.level == level]
            kind, text = "level", f"How many records have the level {level}?"
        case 1:
            found = [r for r in records if r.level == level and r.service == service]
            kind, text = "level_service", f"How many records of the service {service} have the level {level}?"
        case 2:
            found = [r for r in records if r.service == service and r.ms > ms]
            kind, text = "slow", f"How many records of the service {service} took more than {ms} ms?"
        case _:
            found = [r for r in records if r.region == region and r.level != level]
            kind = "not_level"
            text = f"How many records of the region {region} have another level than {level}?"
    return _RecordQuestion(kind, f"{text} Reply with the number alone.", found) if found else None


def _filtering(records: Sequence[Record], rng: random.Random, number: int) -> _RecordQuestion | None:
    if not records:
        return None
    level, service, region = rng.choice(LEVELS), rng.choice(_SERVICES), rng.choice(_REGIONS)
    user = rng.choice(records).user
    match number % 3:
        case 0:
            found = [r for r in records if r.user == user and r.level == level]
            kind, what = "user_level", f"of the user {user} have the level {level}"
        case 1:
            slowest = sorted(r.ms for r in records if r.service == service and r.region == region)
            ms = slowest[-min(len(slowest), rng.randint(2, 7))] if slowest else 0
            found = [r for r in records if r.service == service and r.region == region and r.ms > ms]
            kind, what = "slow", f"of the service {service} in the region {region} took more than {ms} ms"
        case _:
            found = [r for r in records if r.user == user and r.service == service]
            kind, what = "user_service", f"of the user {user} were for the service {service}"
    if not 0 < len(found) <= _MOST_FOUND:
        return None
    text = f"Which requests {what}? Reply with their ids alone, such as REQ-100000, with commas between them."
    return _RecordQuestion(kind, text, found)


def _item(task: str, question: _RecordQuestion, context: str, tokens: int, layout: str) -> TaskItem:
    if task == COUNT:
        expected, scorer = [str(len(question.records))], ScorerName.NUMBER
    else:
        expected, scorer = sorted(record.request for record in question.records), ScorerName.IDS
    return TaskItem(
        id=item_id(task, digest_of(context), question.text, expected),
        task=task,
        context=context,
        query=question.text,
        expected=tuple(expected),
        scorer=scorer,
        tokens=tokens,
        meta={"kind": question.kind, "layout": layout},
    )
