"""Self-contained files of trajectories: ``trace JOB --html FILE`` and ``trace BATCH --html DIR``.

A file has its styles, script and data inside, and a policy that allows no network. It is written page by
page, so the texts of 10,000 sub-calls are never in memory together; it appears under its name only when it
is whole, and only its owner can read it.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from markupsafe import Markup

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import InputError, NotFound
from rlm_dist.operations.trace_text import MOST_CHILDREN, context_text
from rlm_dist.operations.viewer.call_rows import COLUMNS, CallRow, call_rows, texts, values
from rlm_dist.operations.viewer.model import Trajectory, trajectory
from rlm_dist.operations.viewer.render import environment, inline, json_script, policy
from rlm_dist.operations.viewer.timeline import timeline
from rlm_dist.schema import NANO, BatchRecord, JobRecord
from rlm_dist.store import Store
from rlm_dist.store.trace import read_trace

JOB_COLUMNS = (
    *("index", "file", "id", "custom_id", "state", "turns", "calls", "tokens", "nanousd", "ran_ms", "note"),
)
_JOBS_AT_ONCE = 100
_NOTE_CHARS = 160
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def load(store: Store, payloads: Payloads, job_id: str, *, content: bool) -> tuple[Trajectory, JobRecord]:
    """The trajectory of a stored job as it is now, and its record.

    Raises:
        NotFound: if the job does not exist, or its retention is over.
    """
    record = store.jobs.get(job_id)
    children = store.children.of(job_id, MOST_CHILDREN)
    job = trajectory(
        record,
        read_trace(store.journals, job_id, payloads),
        store.jobs.model_costs(job_id),
        now_ms=store.connection.now_ms(),
        content=content,
        context_text=context_text(record.spec.context.info),
        children=children,
        more_children=store.children.count(job_id) - len(children),
    )
    return job, record


def row_pages(
    store: Store, payloads: Payloads, job: Trajectory, record: JobRecord
) -> Iterator[list[CallRow]]:
    """The rows of a job's sub-calls, page by page."""
    paid = store.call_rows.paid(job.id)
    for page in store.call_rows.pages(job.id, requests=job.content):
        prefix = record.spec.broker_prefix
        yield list(call_rows(job, page, paid, payloads.unpack, broker_prefix=prefix))


def write_job(
    path: Path, store: Store, payloads: Payloads, job_id: str, *, content: bool, index: bool = False
) -> None:
    """Write the page of a job; ``index`` says that it is one of a batch's, beside an index.

    Raises:
        NotFound: if the job does not exist, or its retention is over.
        InputError: if the file cannot be written.
    """
    job, record = load(store, payloads, job_id, content=content)
    pages = row_pages(store, payloads, job, record)
    with _new_file(path) as file:
        file.writelines(job_html(job, pages, index=index))


def write_batch(
    folder: Path,
    store: Store,
    payloads: Payloads,
    batch_id: str,
    *,
    content: bool,
    progress: Callable[[int], None] = lambda written: None,
) -> int:
    """Write a page for each job of a batch and an index of them; return the number of jobs.

    Raises:
        NotFound: if the batch does not exist, or its retention is over.
        InputError: if a file cannot be written.
    """
    batch = store.batches.get(batch_id)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    rows: list[list[object]] = []
    for record in _jobs(store, batch_id):
        name = file_name(record.spec.id)
        try:
            write_job(folder / name, store, payloads, record.spec.id, content=content, index=True)
        except NotFound:  # its retention ended meanwhile
            continue
        rows.append(job_row(record, name, content=content, now_ms=store.connection.now_ms()))
        progress(len(rows))
    with _new_file(folder / "index.html") as file:
        file.writelines(index_html(batch, rows, content=content))
    return len(rows)


def job_html(job: Trajectory, pages: Iterable[Sequence[CallRow]], *, index: bool = False) -> Iterator[str]:
    """The page of a job in pieces, with its rows as they come."""
    chunks = (
        (json_script([values(row) for row in page]), json_script([texts(row) for row in page]))
        for page in pages
    )
    return (
        environment().get_template("page.html").generate(**body(job), chunks=chunks, index=index, **_shell())
    )


def body(job: Trajectory) -> dict[str, object]:
    """What the template ``_job_body.html`` shows."""
    spans = json_script([asdict(span) for span in timeline(job)])
    return {"job": job, "spans": spans, "columns": json_script(COLUMNS)}


def index_html(batch: BatchRecord, rows: Sequence[Sequence[object]], *, content: bool) -> Iterator[str]:
    """The index of a batch's pages in pieces; a row has a value for each of ``JOB_COLUMNS``."""
    starts = range(0, len(rows), 1000)
    chunks = (json_script(rows[start : start + 1000]) for start in starts)
    return (
        environment()
        .get_template("index.html")
        .generate(
            batch=batch,
            jobs=len(rows),
            content=content,
            columns=json_script(JOB_COLUMNS),
            chunks=chunks,
            **_shell(),
        )
    )


def job_row(record: JobRecord, file: str, *, content: bool, now_ms: int) -> list[object]:
    """The row of a job in the index of its batch."""
    spec, costs, outcome = record.spec, record.costs, record.outcome
    ran_ms = record.run_ms(record.ended_ms or now_ms) if record.started_ms is not None else None
    nanousd = None if costs.total_cost is None else round(costs.total_cost * NANO)
    return [
        spec.index, file, spec.id, spec.custom_id, record.state,
        outcome.iterations if outcome else None, costs.sub_llm_calls,
        costs.root_llm_tokens + costs.sub_llm_tokens, nanousd, ran_ms, _note(record, content=content),
    ]  # fmt: skip


def file_name(job_id: str) -> str:
    """The name of a job's file in the folder of its batch; its id, if that is a plain name."""
    plain = _PLAIN_NAME.fullmatch(job_id) and job_id != "index"
    return f"{job_id if plain else hashlib.sha256(job_id.encode()).hexdigest()[:32]}.html"


def _note(record: JobRecord, *, content: bool) -> str | None:
    """The head of the answer, or the type of the error."""
    outcome = record.outcome
    if outcome is None:
        return None
    if outcome.error is not None:
        return outcome.error.type
    return (outcome.answer or "")[:_NOTE_CHARS] if content else None


def _jobs(store: Store, batch_id: str) -> Iterator[JobRecord]:
    start = 0
    while ids := store.batches.job_ids(batch_id, start, _JOBS_AT_ONCE):
        start += len(ids)
        yield from (record for record in store.jobs.records(ids) if record is not None)


def _shell() -> dict[str, str | Markup]:
    """What every file has inside."""
    return {"policy": policy(), "css": inline("viewer.css"), "js": inline("viewer.js")}


@contextmanager
def _new_file(path: Path) -> Iterator[IO[str]]:
    """A text file that only its owner can read, and that replaces ``path`` once it is whole."""
    draft: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", newline="\n",
            dir=path.parent, prefix=f".{path.name[:100]}.", delete=False,
        ) as file:  # fmt: skip
            draft = Path(file.name)
            yield file
        os.replace(draft, path)
        draft = None
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError((f"{path} cannot be written: {error.strerror or type(error).__name__}",))
