"""The sub-calls of a job as rows of a table: what a page sorts, filters and draws.

A row is a list, with a value for each name in ``COLUMNS``, so that 10,000 rows stay small. Times are
milliseconds since the job's start; money is in nano-dollars. Values that are not known are null.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from rlm_dist.errors import BlobError
from rlm_dist.operations.viewer.model import Trajectory
from rlm_dist.schema import DEFAULT_TIER, CallRequest, CallResult
from rlm_dist.schema.trajectories import CallEnd
from rlm_dist.store.call_rows import CallStage, PaidCall, StoredCall

UNPLACED = -1  # in place of a block's key


@dataclass(frozen=True)
class CallRow:
    """One sub-call; the names of its fields are those of the columns.

    ``cell`` is the key of its block (``UNPLACED`` if no event names it), ``n`` its place among the block's
    calls. ``state`` is ``waiting``, ``in flight``, ``answered``, ``cut off``, ``cached`` or ``failed``.
    ``waited_ms`` of its ``latency_ms`` went by in the worker before its first attempt started.
    ``failed_attempts`` has the kind of each failed attempt. ``prompt`` and ``answer`` are None unless content
    is shown; so is the text of a ``failure``, which can quote what an endpoint said.
    """

    cell: int
    n: int
    id: str
    state: str
    worker: str | None = None
    model: str | None = None
    tier: str | None = None
    started_ms: int | None = None
    waited_ms: int = 0
    latency_ms: int | None = None
    input: int | None = None
    cached: int | None = None
    output: int | None = None
    nanousd: int | None = None
    attempts: int = 0
    failed_attempts: tuple[str, ...] = ()
    lapsed: int = 0
    failure: str | None = None
    failure_text: str | None = None
    prompt: str | None = None
    answer: str | None = None


TEXTS = ("prompt", "answer", "failure_text")  # kept apart from the rows, as they can be long
COLUMNS = tuple(column.name for column in fields(CallRow) if column.name not in TEXTS)


def values(row: CallRow) -> list[object]:
    """The row as a list, in the order of ``COLUMNS``."""
    return [getattr(row, name) for name in COLUMNS]


def texts(row: CallRow) -> list[str | None]:
    """Its texts, in the order of ``TEXTS``."""
    return [getattr(row, name) for name in TEXTS]


def call_rows(
    job: Trajectory,
    calls: Iterable[StoredCall],
    paid: Mapping[str, PaidCall],
    unpack: Callable[[str], str],
    *,
    broker_prefix: str = "",
) -> Iterator[CallRow]:
    """The rows of these calls, which ``unpack`` reads; one that is gone from the blob store says so."""
    open_cell = _open_cell(job)
    places = itertools.count(len(job.cell_of))
    for call in calls:
        cell, n = job.cell_of.get(call.id) or (open_cell, next(places))
        row = CallRow(
            cell=cell, n=n, id=call.id, lapsed=call.lapsed,
            state="waiting" if call.stage is CallStage.WAITING else "in flight",
            worker=call.owner.removeprefix(broker_prefix) if call.owner else None,
            prompt=_prompt(call.request, unpack) if job.content and call.request else None,
        )  # fmt: skip
        if call.stage is CallStage.ENDED and call.result:
            row = _ended(row, call.result, paid.get(call.id), unpack, job)
        yield row


def _open_cell(job: Trajectory) -> int:
    """The key of the block that calls belong to which no event names."""
    running = next((cell.key for cell in reversed(job.cells) if cell.running), UNPLACED)
    return UNPLACED if job.unplaced else running


def _prompt(packed: str, unpack: Callable[[str], str]) -> str:
    try:
        messages = CallRequest.model_validate_json(unpack(packed)).messages
    except (BlobError, ValueError) as error:
        return f"[the prompt cannot be read: {type(error).__name__}]"
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in messages)


def _ended(
    row: CallRow, packed: str, paid: PaidCall | None, unpack: Callable[[str], str], job: Trajectory
) -> CallRow:
    try:
        result = CallResult.model_validate_json(unpack(packed))
    except (BlobError, ValueError) as error:
        gone = f"[the answer cannot be read: {type(error).__name__}]" if job.content else None
        return replace(row, state="answered", answer=gone)
    completion, failure = result.completion, result.failure
    usage = completion.usage if completion else None
    tokens = usage or paid
    return replace(
        row,
        state=end_of(result),
        model=completion.model if completion else None,
        tier=(usage.tier or DEFAULT_TIER) if usage else None,
        started_ms=result.started_ms - job.start_ms if result.started_ms else None,
        waited_ms=round(result.waited_s * 1000),
        latency_ms=None if result.cached else round(result.seconds * 1000),
        input=tokens.input_tokens if tokens else None,
        cached=tokens.cached_tokens if tokens else None,
        output=tokens.output_tokens if tokens else None,
        nanousd=0 if paid is None else paid.nanousd,
        attempts=result.attempts,
        failed_attempts=tuple(result.failed_attempts),
        failure=failure.kind if failure else None,
        failure_text=failure.message if failure and job.content else None,
        answer=completion.text if completion and job.content else None,
    )


def end_of(result: CallResult) -> CallEnd:
    """How a call ended."""
    if result.failure is not None:
        return "failed"
    if result.cached:
        return "cached"
    return "cut off" if result.completion and result.completion.truncated else "answered"
