"""The data of the page of one job: its trajectory, and the rows of its sub-calls up to a bound."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from rlm_dist.operations.flower.access import PageAccess
from rlm_dist.operations.flower.live import Version
from rlm_dist.operations.viewer.call_rows import CallRow, texts, values
from rlm_dist.operations.viewer.model import Trajectory
from rlm_dist.operations.viewer.render import json_script
from rlm_dist.operations.viewer.trace_page import body, load, row_pages
from rlm_dist.schema import JobRecord

_MOST_ROWS = 20_000
_MOST_TEXT_CHARS = 4_000_000
LIVE_ROWS = 1_000


def job(access: PageAccess, job_id: str, *, most_rows: int = _MOST_ROWS) -> dict[str, Any]:
    """The job as it is now; at most ``most_rows`` of its sub-calls, or none if it has more of them.

    Raises:
        NotFound: if the job does not exist, or its retention is over.
    """
    trajectory, record = load(access.store, access.payloads, job_id, content=access.content)
    has_rows = record.costs.sub_llm_calls + record.calls_claimed <= most_rows
    pages = _rows(access, trajectory, record) if has_rows else []
    return {**body(trajectory), "record": record, "has_rows": has_rows, "chunks": list(pages)}


def job_version(access: PageAccess, job_id: str) -> Version:
    """What the page of a job shows now."""
    record = access.store.jobs.get(job_id)
    events = access.store.journals.last_event(job_id)
    calls = f"{record.calls_in_flight} {record.calls_claimed}"
    text = f"{record.state} {record.epoch} {record.cancel_requested} {calls} {events} {record.costs}"
    return Version(text, record.state.final and not record.costs.pending_calls)


def _rows(access: PageAccess, job: Trajectory, record: JobRecord) -> Iterator[tuple[Markup, Markup | None]]:
    """Rows and their texts as JSON; once the texts are too long together, the rest is left out."""
    chars = 0
    for page in row_pages(access.store, access.payloads, job, record):
        rows = page if chars < _MOST_TEXT_CHARS else [_without_texts(row) for row in page]
        chars += sum(len(text) for row in rows for text in texts(row) if text)
        yield (
            json_script([values(row) for row in rows]),
            json_script([texts(row) for row in rows]) if job.content else None,
        )


def _without_texts(row: CallRow) -> CallRow:
    note = "[left out of this page, which would be too long: rlm-dist trace JOB --html FILE has it]"
    return replace(row, prompt=row.prompt and note, answer=row.answer and note)
