"""The span of a model call: how it ended and what was paid for it, as the ledger has it."""

import time

from rlm_dist.otel.attributes import call_attributes
from rlm_dist.otel.spans import FinishedSpan, Spans
from rlm_dist.schema import CallRequest, CallResult
from rlm_dist.store import Settlement


def record_call(
    spans: Spans, job_id: str, parent: int, request: CallRequest, result: CallResult, settlement: Settlement
) -> None:
    """Record a call that has just been settled; one that was given back and cost nothing has no span."""
    if not spans.on or (settlement.returned is not None and not settlement.wasted):
        return
    paid = [*([settlement.spend] if settlement.spend else []), *settlement.wasted]
    ended_ns = time.time_ns()
    spans.record(
        FinishedSpan(
            job_id=job_id,
            name=f"chat {request.model}",
            began_ns=ended_ns - int(result.seconds * 1e9),
            ended_ns=ended_ns,
            attributes=call_attributes(
                job_id, settlement.call_id, request, result, paid, content=spans.content
            ),
            parent=parent,
            kind="client",
            error=str(result.failure.kind) if result.failure else None,
        )
    )
