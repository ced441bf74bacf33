"""All batches and all jobs, the newest first, page by page; and their costs by tag.

A cursor is the time of creation and the id of the last one shown, so a page begins after it even if others
have come or gone.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from rlm_dist.schema import BatchState, JobState
from rlm_dist.schema.lists import BatchPage, JobPage, JobRow, TagCosts
from rlm_dist.store import keys
from rlm_dist.store.batches import BatchStore, read_tags
from rlm_dist.store.connection import StoreConnection, StorePart
from rlm_dist.store.cursors import bad_cursor, read_cursor, write_cursor
from rlm_dist.store.job_lists import JobListStore
from rlm_dist.store.ledger import read_costs

_AT_ONCE = 500


class _DatedEntry(NamedTuple):
    """A batch or job by its time of creation."""

    created_ms: int
    id: str


class ListingStore(StorePart):
    """The part of the store for lists of all batches and all jobs."""

    def __init__(self, connection: StoreConnection, batches: BatchStore, lists: JobListStore) -> None:
        super().__init__(connection)
        self._batches = batches
        self._lists = lists

    def batches(
        self,
        *,
        state: BatchState | None = None,
        tags: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> BatchPage:
        """Up to ``limit`` batches after a cursor, of one state and with all of these tags.

        Raises:
            InputError: if the cursor is none of ours.
        """
        wanted = (tags or {}).items()
        found = (
            (entry, batch)
            for entries in self._chunks(keys.BATCHES, after)
            for entry, batch in zip(entries, self._batches.records([one.id for one in entries]), strict=True)
            if batch and state in (None, batch.state) and wanted <= batch.tags.items()
        )
        shown, after = _page(found, limit)
        return BatchPage(rows=tuple(shown), next=after)

    def jobs(
        self,
        *,
        state: JobState | None = None,
        tags: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> JobPage:
        """Up to ``limit`` jobs after a cursor, of one state and with all of these tags.

        The jobs of a batch have its tags.

        Raises:
            InputError: if the cursor is none of ours.
        """
        wanted = (tags or {}).items()
        tags_of: dict[str | None, dict[str, str]] = {None: {}}
        found = (
            (entry, row)
            for entries in self._chunks(keys.JOBS, after)
            for entry, row in self._rows(entries)
            if state in (None, row.state)
            and (not wanted or wanted <= (row.tags | self._batch_tags(row.batch_id, tags_of)).items())
        )
        shown, after = _page(found, limit)
        return JobPage(rows=tuple(shown), next=after)

    def costs_by_tag(self, tag: str | None = None) -> list[TagCosts]:
        """What all batches and single jobs have used, by the values of a tag, or of each tag in turn.

        Those without the tag come last, with the value None. What is past its retention is not counted.
        """
        owners = list(self._owners())
        names = [tag] if tag is not None else sorted({name for owner in owners for name in owner.tags})
        return [costs for name in names for costs in _split(name, owners)]

    def _owners(self) -> Iterator["_LedgerOwner"]:
        """All batches and single jobs."""
        for entries in self._chunks(keys.BATCHES, None):
            yield from self._read(entries, keys.batch, is_batch=True)
        for entries in self._chunks(keys.JOBS, None):
            batches = self._pipelined(entries, lambda pipe, one: pipe.hget(keys.job(one.id), "batch"))
            singles = [one for one, batch in zip(entries, batches, strict=True) if batch is None]
            yield from self._read(singles, keys.job, is_batch=False)

    def _read(
        self, entries: list[_DatedEntry], key: Callable[..., str], *, is_batch: bool
    ) -> Iterator["_LedgerOwner"]:
        tags = self._pipelined(entries, lambda pipe, one: pipe.hget(key(one.id), "tags"))
        ledgers = self._pipelined(entries, lambda pipe, one: pipe.hgetall(key(one.id, "ledger")))
        for text, ledger in zip(tags, ledgers, strict=True):
            yield _LedgerOwner(is_batch, read_tags(text), ledger)

    def _rows(self, entries: list[_DatedEntry]) -> Iterator[tuple[_DatedEntry, JobRow]]:
        rows = {row.id: row for row in self._lists.rows([entry.id for entry in entries])}
        return ((entry, rows[entry.id]) for entry in entries if entry.id in rows)

    def _batch_tags(self, batch_id: str | None, read: dict[str | None, dict[str, str]]) -> dict[str, str]:
        if batch_id not in read:
            text = self._reach(lambda: self._client.hget(keys.batch(batch_id or ""), "tags"))
            read[batch_id] = read_tags(text)
        return read[batch_id]

    def _pipelined(
        self, entries: list[_DatedEntry], command: Callable[[Any, _DatedEntry], object]
    ) -> list[Any]:
        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for entry in entries:
                command(pipe, entry)
            return list(pipe.execute())

        return self._reach(read) if entries else []

    def _chunks(self, key: str, after: str | None) -> Iterator[list[_DatedEntry]]:
        """The entries of a list after a cursor, the newest first."""
        last = _read_cursor(after) if after is not None else None
        while entries := self._next(key, last):
            yield entries
            last = entries[-1]

    def _next(self, key: str, last: _DatedEntry | None) -> list[_DatedEntry]:
        def read() -> list[tuple[str, float]]:
            most, count = "+inf", _AT_ONCE
            if last is not None:  # others of the same millisecond come before it
                most = str(last.created_ms)
                count += self._client.zcount(key, most, most)
            return list(
                self._client.zrange(
                    key, most, "-inf", desc=True, byscore=True, offset=0, num=count, withscores=True
                )
            )

        entries = [_DatedEntry(int(score), name) for name, score in self._reach(read)]
        return [entry for entry in entries if last is None or entry < last][:_AT_ONCE]


class _LedgerOwner(NamedTuple):
    is_batch: bool
    tags: dict[str, str]
    ledger: dict[str, str]


def _split(tag: str, owners: Iterable[_LedgerOwner]) -> Iterator[TagCosts]:
    """What these have used, by the value of a tag."""
    sums: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    counts: Counter[tuple[str | None, bool]] = Counter()
    for owner in owners:
        value = owner.tags.get(tag)
        counts[value, owner.is_batch] += 1
        sums[value].update({field: int(amount) for field, amount in owner.ledger.items()})
    for value in sorted(sums, key=lambda value: (value is None, value)):
        ledger = {field: str(amount) for field, amount in sums[value].items()}
        yield TagCosts(
            tag=tag,
            value=value,
            batches=counts[value, True],
            single_jobs=counts[value, False],
            costs=read_costs(ledger),
        )


def _page(found: Iterator[tuple[_DatedEntry, Any]], limit: int) -> tuple[list[Any], str | None]:
    """The first ``limit`` of these, and the cursor of what comes after them."""
    taken = list(islice(found, limit + 1))
    after = write_cursor(taken[limit - 1][0]) if len(taken) > limit else None
    return [value for _, value in taken[:limit]], after


def _read_cursor(text: str) -> _DatedEntry:
    match read_cursor(text):
        case [int(created_ms), str(name)]:
            return _DatedEntry(created_ms, name)
    raise bad_cursor()
