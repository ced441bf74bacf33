"""The data of the page of one batch: its jobs, filtered, sorted and paged by cursor, and its histograms."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from rlm_dist.errors import InputError
from rlm_dist.operations.flower.access import PageAccess
from rlm_dist.operations.flower.batches_page import card, running_jobs
from rlm_dist.operations.viewer.render import count, duration, usd
from rlm_dist.schema import NANO, JobState
from rlm_dist.schema.lists import Bucket, JobOrder

_ROWS = 50
_FOUND = 50
_RUNNING = 10
_STEPS_BACK = 8  # as many earlier pages as a URL names
_BAR_HEIGHT = 60
_LABELS: dict[JobOrder, Callable[[int], str]] = {
    JobOrder.COST: lambda nanousd: usd(nanousd / NANO),
    JobOrder.TIME: lambda ms: duration(ms / 1000),
    JobOrder.TURNS: count,
}


@dataclass(frozen=True)
class JobFilter:
    """Which jobs of a batch a page shows, as its URL says."""

    state: JobState | None = None
    reason: str | None = None
    order: JobOrder = JobOrder.INDEX
    descending: bool = False
    at_least: int | None = None
    below: int | None = None
    after: str | None = None
    back: tuple[str, ...] = ()
    search: str = ""

    @classmethod
    def read(cls, argument: Callable[[str], str]) -> Self:
        """The filter of a URL whose arguments ``argument`` returns, '' for each that it lacks.

        Raises:
            InputError: naming the first argument that is bad.
        """
        state = _one_of(JobState, "state", argument("state"))
        order = _one_of(JobOrder, "order", argument("order")) or JobOrder.INDEX
        if state is not None and not state.final:
            order = JobOrder.INDEX  # only ended jobs are sorted by what they used
        return cls(
            state=state,
            reason=argument("reason") or None,
            order=order,
            descending=argument("desc") == "1",
            at_least=_number("at_least", argument("at_least")),
            below=_number("below", argument("below")),
            after=argument("after") or None,
            back=tuple(argument("back").split("."))[-_STEPS_BACK:] if argument("back") else (),
            search=argument("q").strip()[:200],
        )

    def query(self, **changes: Any) -> dict[str, object]:
        """The arguments of the URL of this filter with some changes; it begins at its first page."""
        other = replace(self, **{"after": None, "back": (), "search": "", **changes})
        is_sorted = other.order is not JobOrder.INDEX
        return {
            "state": other.state, "reason": other.reason, "order": other.order if is_sorted else None,
            "desc": "1" if other.descending else None, "at_least": other.at_least, "below": other.below,
            "after": other.after, "back": ".".join(other.back),
        }  # fmt: skip


class HistogramBar(NamedTuple):
    """One bar: its height in units of the drawing, and the jobs it stands for."""

    bucket: Bucket
    height: float
    low: str
    high: str
    query: dict[str, object]


class Histogram(NamedTuple):
    """How the ended jobs of a batch spread over one quantity."""

    title: str
    bars: list[HistogramBar]


def batch(access: PageAccess, batch_id: str, chosen: JobFilter) -> dict[str, Any]:
    """The batch, and one page of its jobs.

    Raises:
        NotFound: if the batch does not exist, or its retention is over.
        InputError: if the cursor is none of ours.
    """
    lists, record = access.store.lists, access.store.batches.get(batch_id)
    if chosen.search:
        rows, next_cursor = lists.search(batch_id, chosen.search, _FOUND), None
    else:
        page = lists.page(
            batch_id, state=chosen.state, reason=chosen.reason, order=chosen.order,
            descending=chosen.descending, at_least=chosen.at_least or 0, after=chosen.after, limit=_ROWS,
            **({} if chosen.below is None else {"below": chosen.below}),
        )  # fmt: skip
        rows, next_cursor = list(page.rows), page.next
    return {
        "card": card(access, record),
        "filter": chosen,
        "rows": rows,
        "found": _FOUND,
        "next": _next(chosen, next_cursor) if next_cursor else None,
        "previous": _previous(chosen),
        "reasons": sorted(lists.reasons(batch_id).items(), key=lambda item: -item[1]),
        "histograms": _histograms(access, batch_id),
        **running_jobs(access, batch_id, _RUNNING),
    }


def _next(chosen: JobFilter, cursor: str) -> dict[str, object]:
    steps = (*chosen.back, chosen.after or "0")[-_STEPS_BACK:]
    return chosen.query(after=cursor, back=steps)


def _previous(chosen: JobFilter) -> dict[str, object] | None:
    """The page before; the first one if the URL does not name it any more."""
    if chosen.after is None:
        return None
    *steps, last = chosen.back or ("0",)
    return chosen.query(after=None if last == "0" else last, back=tuple(steps))


def _histograms(access: PageAccess, batch_id: str) -> list[Histogram]:
    titles = {JobOrder.COST: "Cost", JobOrder.TIME: "Time", JobOrder.TURNS: "Turns"}
    return [
        Histogram(title, _bars(order, access.store.lists.histogram(batch_id, order)))
        for order, title in titles.items()
    ]


def _bars(order: JobOrder, buckets: list[Bucket]) -> list[HistogramBar]:
    most = max((bucket.count for bucket in buckets), default=0)
    label = _LABELS[order]
    return [
        HistogramBar(
            bucket=bucket,
            height=max(2.0, _BAR_HEIGHT * bucket.count / most) if bucket.count else 0.0,
            low=label(bucket.low),
            high=label(bucket.high),
            query={"order": order, "desc": "1", "at_least": bucket.low, "below": bucket.high},
        )
        for bucket in buckets
    ]


def _one_of(kind: Any, name: str, text: str) -> Any:
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InputError((f"{name}: must be one of {', '.join(kind)}",)) from None


def _number(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise InputError((f"{name}: must be a whole number",))
    return int(text)
