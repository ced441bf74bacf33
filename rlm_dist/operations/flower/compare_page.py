"""The data of the page that compares two batches, job by job, by their custom ids."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from statistics import fmean
from typing import Any, NamedTuple

from rlm_dist.operations.flower.access import PageAccess
from rlm_dist.schema import BatchRecord, JobRecord
from rlm_dist.store import Store

_PAIRS = 50
_SCANNED = 150  # as many pairs as a page looks at to find those that differ
_AT_ONCE = 100


class JobPair(NamedTuple):
    """The jobs of one custom id in both batches; None in a batch that lacks it."""

    name: str
    a: JobRecord | None
    b: JobRecord | None

    @property
    def differs(self) -> str:
        """How the two differ, in a word or two; '' if state and answer are equal."""
        if self.a is None or self.b is None:
            return "only in A" if self.a else "only in B"
        if self.a.state is not self.b.state:
            return "other state"
        return "other answer" if _answer(self.a) != _answer(self.b) else ""


class PairedDifference(NamedTuple):
    """What jobs of B used beyond those of A, over the pairs that have both values."""

    name: str
    unit: str
    pairs: int
    a: float
    b: float

    @property
    def change(self) -> float:
        """The mean of B less the mean of A."""
        return self.b - self.a


def compare(access: PageAccess, a: str, b: str, *, after: str, only: bool) -> dict[str, Any]:
    """One page of pairs after a custom id, all of them or ``only`` those that differ.

    Raises:
        NotFound: if a batch does not exist, or its retention is over.
    """
    store = access.store
    newest = [record.id for record in store.batches.newest(50)]
    if not a or not b:
        return {"a": None, "b": None, "names": (a, b), "newest": newest}
    records: tuple[BatchRecord, BatchRecord] = (store.batches.get(a), store.batches.get(b))
    scanned = list(islice(_pairs(store, a, b, after), (_SCANNED if only else _PAIRS) + 1))
    more, scanned = len(scanned) > (_SCANNED if only else _PAIRS), scanned[: _SCANNED if only else _PAIRS]
    shown = [pair for pair in scanned if not only or pair.differs][: _PAIRS if only else None]
    is_cut = only and len([pair for pair in scanned if pair.differs]) > len(shown)
    last = shown[-1] if is_cut else scanned[-1] if scanned else None
    return {
        "a": records[0], "b": records[1], "names": (a, b), "newest": newest, "only": only,
        "after": after, "pairs": shown, "scanned": len(scanned),
        "next": last.name if last and (more or is_cut) else None,
        "differences": _differences(scanned),
        "changed": _counted(scanned),
    }  # fmt: skip


def _pairs(store: Store, a: str, b: str, after: str) -> Iterator[JobPair]:
    """The pairs in the order of their custom ids."""
    ids: list[tuple[str, str | None, str | None]] = []
    for named in _merged(_names(store, a, after), _names(store, b, after)):
        ids.append(named)
        if len(ids) == _AT_ONCE:
            yield from _records(store, ids)
            ids = []
    yield from _records(store, ids)


def _merged(
    a: Iterator[tuple[str, str]], b: Iterator[tuple[str, str]]
) -> Iterator[tuple[str, str | None, str | None]]:
    left, right = next(a, None), next(b, None)
    while left or right:
        left_key = left[0].encode("utf-8", "surrogatepass") if left else None
        right_key = right[0].encode("utf-8", "surrogatepass") if right else None
        has_left = left_key is not None and (right_key is None or left_key <= right_key)
        has_right = right_key is not None and (left_key is None or right_key <= left_key)
        name = left[0] if left and has_left else right[0] if right else ""
        yield name, left[1] if left and has_left else None, right[1] if right and has_right else None
        left = next(a, None) if has_left else left
        right = next(b, None) if has_right else right


def _names(store: Store, batch_id: str, after: str) -> Iterator[tuple[str, str]]:
    """The (name, job id) pairs of a batch in the order of their names' bytes, after a name."""
    while page := store.lists.names(batch_id, after, _AT_ONCE):
        yield from page
        after = page[-1][0]


def _records(store: Store, ids: list[tuple[str, str | None, str | None]]) -> Iterator[JobPair]:
    wanted = [job_id for _, *pair in ids for job_id in pair if job_id]
    records = {record.spec.id: record for record in store.jobs.records(wanted) if record}
    for name, a, b in ids:
        pair = JobPair(name, records.get(a or ""), records.get(b or ""))
        if pair.a or pair.b:
            yield pair


def _answer(record: JobRecord) -> object:
    outcome = record.outcome
    return None if outcome is None else (outcome.answer, outcome.answer_json)


def _counted(pairs: Iterable[JobPair]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pair in pairs:
        counts[pair.differs or "equal"] = counts.get(pair.differs or "equal", 0) + 1
    return counts


def _differences(pairs: Iterable[JobPair]) -> list[PairedDifference]:
    both = [(pair.a, pair.b) for pair in pairs if pair.a and pair.b and pair.a.ended_ms and pair.b.ended_ms]
    if not both:
        return []
    columns: dict[tuple[str, str], Callable[[JobRecord], float | None]] = {
        ("Cost", "usd"): lambda record: record.costs.total_cost,
        ("Time", "s"): lambda record: record.run_ms(record.ended_ms or 0) / 1000,
        ("Turns", ""): lambda record: record.outcome.iterations if record.outcome else None,
        ("Sub-calls", ""): lambda record: record.costs.sub_llm_calls,
    }
    found = []
    for (name, unit), value in columns.items():
        measured = [(value(a), value(b)) for a, b in both]
        known = [(x, y) for x, y in measured if x is not None and y is not None]
        if known:
            means = fmean(x for x, _ in known), fmean(y for _, y in known)
            found.append(PairedDifference(name, unit, len(known), *means))
    return found
