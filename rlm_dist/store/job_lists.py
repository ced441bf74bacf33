"""Lists of a batch's jobs: by state, sorted, page by page, by reason, by name; and histograms.

``lua/prelude_lists.lua`` writes them. Reading a page costs the same at any number of jobs. A cursor names
the last job of each state that was shown, so a page begins after these jobs even if others have moved.
"""

import json
from collections.abc import Sequence
from heapq import merge
from itertools import islice, pairwise
from typing import Any, NamedTuple

from rlm_dist.schema import JobSpec, JobState, Outcome
from rlm_dist.schema.lists import Bucket, JobOrder, JobPage, JobRow
from rlm_dist.store import keys
from rlm_dist.store.connection import StoreConnection, StorePart
from rlm_dist.store.cursors import bad_cursor, read_cursor, write_cursor
from rlm_dist.store.ledger import read_costs

# As lua/prelude_lists.lua has them.
_SPAN = 10**14
_CODES = {state: code for code, state in enumerate(JobState)}
_NUL = "\0"

_AT_ONCE = 500
_SCANNED_AT_ONCE = 10_000
_MOST_BUCKETS = 24
_FIELDS = (
    *("id", "name", "state", "reason", "turns", "queued_ms", "started_ms", "ended_ms", "since_ms", "ran_ms"),
    *("owner", "isolation", "recoveries", "diverged", "batch", "tags"),
)


class _ListEntry(NamedTuple):
    """A job in a list: its state's or reason's number, its value and its id."""

    code: int
    value: int
    id: str

    @property
    def score(self) -> int:
        return self.code * _SPAN + self.value


class _ListPart(NamedTuple):
    """The part of a list that a page is read from: jobs of one code, ``low`` <= value < ``high``."""

    key: str
    code: int
    low: int
    high: int

    @property
    def first(self) -> int:
        return self.code * _SPAN + self.low

    @property
    def end(self) -> int:
        return self.code * _SPAN + self.high


class JobListStore(StorePart):
    """The part of the store for lists of jobs."""

    def __init__(self, connection: StoreConnection) -> None:
        super().__init__(connection)
        self._checked: set[str] = set()  # batches whose older jobs have been listed

    def page(
        self,
        batch_id: str,
        *,
        state: JobState | None = None,
        reason: str | None = None,
        order: JobOrder = JobOrder.INDEX,
        descending: bool = False,
        at_least: int = 0,
        below: int = _SPAN,
        after: str | None = None,
        limit: int = 100,
    ) -> JobPage:
        """Up to ``limit`` jobs after a cursor; of one state, or that ended for one reason.

        Jobs with a ``reason`` come by their line. Any order but that by line lists only jobs that have
        ended, with a value in ``at_least`` <= value < ``below``.

        Raises:
            InputError: if the cursor is none of ours.
        """
        self._list_older_jobs(batch_id)
        cursor = _read_cursor(after) if after is not None else {}
        parts = self._parts(batch_id, state, reason, order, at_least, below)
        lists = self._entries(parts, cursor, descending, limit + 1)
        in_order = merge(*lists, key=lambda entry: (entry.value, entry.id), reverse=descending)
        entries = list(islice(in_order, limit + 1))
        shown = entries[:limit]
        more = len(entries) > limit
        cursor |= {entry.code: entry for entry in shown}
        return JobPage(rows=tuple(self._rows(shown)), next=_write_cursor(cursor) if more else None)

    def search(self, batch_id: str, text: str, limit: int = 50) -> list[JobRow]:
        """Up to ``limit`` jobs whose id is ``text`` or whose name contains it; names that begin so first."""
        self._list_older_jobs(batch_id)
        names = keys.batch(batch_id, "names")
        start = text.encode("utf-8", "surrogatepass")

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.zscore(keys.batch(batch_id, "jobs"), text)
            pipe.zrangebylex(names, b"[" + start, b"[" + start + b"\xff", start=0, num=limit)
            return list(pipe.execute())

        is_id, members = self._reach(read)
        ids = dict.fromkeys([text] if is_id is not None else [])
        ids |= dict.fromkeys(member.rpartition(_NUL)[2] for member in members)
        cursor = -1
        while cursor and len(ids) < limit:
            cursor, members = self._scan_names(names, text, max(cursor, 0))
            ids |= dict.fromkeys(
                job_id for name, _, job_id in (member.rpartition(_NUL) for member in members) if text in name
            )
        return self._rows([self._any_entry(job_id) for job_id in islice(ids, limit)])

    def names(self, batch_id: str, after: str = "", limit: int = 100) -> list[tuple[str, str]]:
        """Up to ``limit`` (custom id, job id) pairs after a custom id, in the order of the ids' bytes."""
        self._list_older_jobs(batch_id)
        start = b"(" + after.encode("utf-8", "surrogatepass") + b"\0\xff" if after else b"-"
        key = keys.batch(batch_id, "names")
        members = self._reach(lambda: self._client.zrangebylex(key, start, b"+", start=0, num=limit))
        return [(name, job_id) for name, _, job_id in (member.rpartition(_NUL) for member in members)]

    def named(self, name: str, batch_ids: Sequence[str] | None = None) -> list[tuple[str, str]]:
        """(batch id, job id) of each job of this name in these batches, or in any; the newest batch first."""
        if batch_ids is None:
            batch_ids = self._reach(lambda: self._client.zrange(keys.BATCHES, 0, -1, desc=True))
        start = b"[" + (name + _NUL).encode("utf-8", "surrogatepass")

        def read() -> list[list[str]]:
            pipe = self._client.pipeline(transaction=False)
            for batch_id in batch_ids:
                pipe.zrangebylex(keys.batch(batch_id, "names"), start, start + b"\xff", start=0, num=1)
            return list(pipe.execute())

        found = zip(batch_ids, self._reach(read) if batch_ids else [], strict=True)
        return [(batch_id, member.rpartition(_NUL)[2]) for batch_id, members in found for member in members]

    def reasons(self, batch_id: str) -> dict[str, int]:
        """How many jobs ended without an answer, by reason."""
        self._list_older_jobs(batch_id)
        numbers = self._reason_numbers(batch_id)
        parts = [_ListPart(keys.batch(batch_id, "by:reason"), code, 0, _SPAN) for code in numbers.values()]
        counts = zip(numbers, self._counts(parts), strict=True)
        return {reason: count for reason, count in counts if count}

    def histogram(self, batch_id: str, order: JobOrder, *, state: JobState | None = None) -> list[Bucket]:
        """How many ended jobs lie in each of at most 24 buckets; empty if none has ended.

        The bounds are 0, and 1, 2 or 5 times powers of 10.
        """
        self._list_older_jobs(batch_id)
        parts = self._parts(batch_id, state, None, order, 0, _SPAN)
        ends = [
            entry.value
            for descending in (False, True)
            for entries in self._entries(parts, {}, descending, 1)
            for entry in entries
        ]
        if not ends:
            return []
        bounds = _bounds(min(ends), max(ends))
        buckets = list(pairwise(bounds))
        counts = self._counts(
            [_ListPart(part.key, part.code, low, high) for low, high in buckets for part in parts]
        )
        return [
            Bucket(low=low, high=high, count=sum(counts[n * len(parts) : (n + 1) * len(parts)]))
            for n, (low, high) in enumerate(buckets)
        ]

    def rows(self, job_ids: Sequence[str]) -> list[JobRow]:
        """These jobs as rows, without those whose retention is over."""
        rows = self._rows([self._any_entry(job_id) for job_id in job_ids])
        return [row for row in rows if row.custom_id or row.queued_ms]

    @staticmethod
    def _any_entry(job_id: str) -> _ListEntry:
        return _ListEntry(0, 0, job_id)

    def _parts(
        self,
        batch_id: str,
        state: JobState | None,
        reason: str | None,
        order: JobOrder,
        at_least: int,
        below: int,
    ) -> list[_ListPart]:
        if reason is not None:
            number = self._reason_numbers(batch_id).get(reason)
            key = keys.batch(batch_id, "by:reason")
            return [] if number is None else [_ListPart(key, number, 0, _SPAN)]
        key = keys.batch(batch_id, f"by:{order}")
        states = [state] if state else [each for each in JobState if each.final or order is JobOrder.INDEX]
        return [_ListPart(key, _CODES[one], max(0, at_least), min(below, _SPAN)) for one in states]

    def _reason_numbers(self, batch_id: str) -> dict[str, int]:
        numbers = self._reach(lambda: self._client.hgetall(keys.batch(batch_id, "reasons")))
        return {reason: int(number) for reason, number in numbers.items()}

    def _entries(
        self, parts: Sequence[_ListPart], cursor: dict[int, _ListEntry], descending: bool, limit: int
    ) -> list[list[_ListEntry]]:
        """The next entries of each part, after the cursor's entry of its code."""

        if not parts:
            return []
        fields: list[str | int] = []
        for part in parts:
            last = cursor.get(part.code)
            fields += [part.first, part.end, *((last.id, last.score) if last else ("", ""))]
        lists = self._script("list_entries", [part.key for part in parts], limit, int(descending), *fields)
        return [
            [
                _ListEntry(part.code, int(float(score)) - part.code * _SPAN, job_id)
                for job_id, score in zip(pairs[::2], pairs[1::2], strict=True)
            ][:: -1 if descending else 1]
            for part, pairs in zip(parts, lists, strict=True)
        ]

    def _counts(self, parts: Sequence[_ListPart]) -> list[int]:
        def read() -> list[int]:
            pipe = self._client.pipeline(transaction=False)
            for part in parts:
                pipe.zcount(part.key, part.first, f"({part.end}")
            return list(pipe.execute())

        return self._reach(read) if parts else []

    def _scan_names(self, names: str, text: str, cursor: int) -> tuple[int, list[str]]:
        pattern = "*" + "".join(f"\\{char}" if char in "*?[]^\\-" else char for char in text) + "*"
        position, pairs = self._reach(
            lambda: self._client.zscan(names, cursor, match=pattern, count=_SCANNED_AT_ONCE)
        )
        return int(position), [member for member, _ in pairs]

    def _rows(self, entries: Sequence[_ListEntry]) -> list[JobRow]:
        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            for entry in entries:
                pipe.hmget(keys.job(entry.id), _FIELDS)
                pipe.hgetall(keys.job(entry.id, "ledger"))
            return list(pipe.execute())

        if not entries:
            return []
        (seconds, _), *values = self._reach(read)
        now_ms = int(seconds) * 1000
        return [
            _row(entry, dict(zip(_FIELDS, fields, strict=True)), ledger, now_ms)
            for entry, fields, ledger in zip(entries, values[::2], values[1::2], strict=True)
        ]

    def _list_older_jobs(self, batch_id: str) -> None:
        """Put the jobs that an earlier version submitted into the lists of their batch."""

        def read() -> list[int]:
            pipe = self._client.pipeline(transaction=False)
            pipe.zcard(keys.batch(batch_id, "jobs"))
            pipe.zcard(keys.batch(batch_id, "by:index"))
            return list(pipe.execute())

        jobs, listed = self._reach(read)
        if listed >= jobs or batch_id in self._checked:
            return
        ids = self._reach(lambda: self._client.zrange(keys.batch(batch_id, "jobs"), 0, -1))
        for start in range(0, len(ids), _AT_ONCE):
            self._list(batch_id, ids[start : start + _AT_ONCE])
        self._checked.add(batch_id)

    def _list(self, batch_id: str, job_ids: Sequence[str]) -> None:
        def read() -> list[list[str | None]]:
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), "spec", "outcome")
            return list(pipe.execute())

        calls = []
        for job_id, (spec, outcome) in zip(job_ids, self._reach(read), strict=True):
            if spec is not None:
                end = Outcome.model_validate(json.loads(outcome)) if outcome else None
                name = JobSpec.model_validate(json.loads(spec)).custom_id
                how = (end.iterations, end.reason) if end else (0, "")
                calls.append((keys.job_keys(job_id), (keys.batch(batch_id), name, *how)))
        self._scripts_at_once("job_list", calls)


def _write_cursor(cursor: dict[int, _ListEntry]) -> str:
    return write_cursor(list(cursor.values()))


def _read_cursor(text: str) -> dict[int, _ListEntry]:
    fields = read_cursor(text)
    if not isinstance(fields, list) or not fields or not all(map(_is_entry, fields)):
        raise bad_cursor()
    return {entry.code: entry for entry in (_ListEntry(*entry) for entry in fields)}


def _is_entry(fields: object) -> bool:
    return isinstance(fields, list) and list(map(type, fields)) == [int, int, str]


def _bounds(low: int, high: int) -> list[int]:
    """Bounds of buckets from ``low`` to beyond ``high``: 0, and 1, 2 or 5 times powers of 10, at most 25."""
    steps = [0] + [digit * 10**power for power in range(15) for digit in (1, 2, 5)]
    start = max(n for n, step in enumerate(steps) if step <= low)
    end = min(n for n, step in enumerate(steps) if step > high)
    bounds = steps[start : end + 1]
    while len(bounds) > _MOST_BUCKETS + 1:  # every other one, and the last
        bounds = bounds[:-1:2] + bounds[-1:]
    return bounds


def _row(entry: _ListEntry, job: dict[str, str | None], ledger: dict[str, str], now_ms: int) -> JobRow:
    if job["id"] is None:
        return JobRow(id=entry.id, custom_id="", state=list(JobState)[min(entry.code, len(JobState) - 1)])
    started, since = job["started_ms"], job["since_ms"]
    ended_ms = _number(job["ended_ms"])
    run_ms = int(job["ran_ms"] or 0) + ((ended_ms or now_ms) - int(since) if since else 0)
    return JobRow(
        id=entry.id,
        custom_id=job["name"] or entry.id,
        batch_id=job["batch"].removeprefix(keys.batch("")) if job["batch"] else None,
        state=JobState(job["state"] or ""),
        reason=job["reason"] or "",
        turns=int(job["turns"] or 0),
        sub_calls=int(ledger.get("sub_calls", 0)),
        queued_ms=int(job["queued_ms"] or 0),
        started_ms=_number(started),
        ended_ms=ended_ms,
        run_ms=max(0, run_ms) if started else None,
        worker=job["owner"],
        isolation=job["isolation"],
        recoveries=int(job["recoveries"] or 0),
        diverged_cells=int(job["diverged"] or 0),
        tags=json.loads(job["tags"] or "{}"),
        costs=read_costs(ledger),
    )


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
