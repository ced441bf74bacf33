"""What spans say, under the names that others look for.

``gen_ai.…`` are OpenTelemetry's conventions for generative AI, which Langfuse and MLflow read;
``gen_ai.usage.cost`` is Langfuse's. ``openinference.…``, ``llm.…``, ``input.…`` and ``output.…`` are those
of OpenInference, which Phoenix reads. ``rlm.…`` are ours.

Invariant: only the span of a model call has tokens and money, so whoever adds up a trace gets the ledger's
sums. Texts are given only if they are asked for.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Protocol

from rlm_dist.otel.spans import Attributes, AttributeValue
from rlm_dist.schema import NANO, CallRequest, CallResult, JobSpec, Message, Outcome, Usage
from rlm_dist.schema.events import CellRan

# A batch of spans must stay far below the 64 MiB that the exporter sends at once.
MOST_CHARS = 20_000
_JSON = "application/json"


class Paid(Protocol):
    """One attempt that an endpoint charged for; ``nanousd`` is None if the price is unknown."""

    @property
    def usage(self) -> Usage: ...

    @property
    def nanousd(self) -> int | None: ...


def call_attributes(
    job_id: str,
    call_id: str,
    request: CallRequest,
    result: CallResult,
    paid: Sequence[Paid],
    *,
    content: bool,
) -> Attributes:
    """What the span of a model call says; ``paid`` are all its attempts that were charged."""
    completion = result.completion
    usage = sum((attempt.usage for attempt in paid), Usage())
    model = completion.model if completion else request.model
    said: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",  # the protocol; any server may speak it
        "gen_ai.request.model": request.model,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "openinference.span.kind": "LLM",
        "llm.system": "openai",
        "llm.model_name": model,
        "llm.token_count.prompt": usage.input_tokens,
        "llm.token_count.completion": usage.output_tokens,
        "llm.token_count.total": usage.total,
        "rlm.job_id": job_id,
        "rlm.call_id": call_id,
        "rlm.role": request.role.value,
        "rlm.attempts": result.attempts,
        "rlm.cached": result.cached,
        "rlm.truncated": completion is not None and completion.truncated,
    }
    if usage.cached_tokens:
        said |= _cached(usage)
    if request.max_output_tokens is not None:
        said["gen_ai.request.max_tokens"] = request.max_output_tokens
    if request.temperature is not None:
        said["gen_ai.request.temperature"] = request.temperature
    prices = [attempt.nanousd for attempt in paid]
    known = [price for price in prices if price is not None]
    if len(known) == len(prices):
        usd = sum(known) / NANO
        said |= dict.fromkeys(("gen_ai.usage.cost", "llm.cost.total", "rlm.cost_usd"), usd)
        said["mlflow.llm.cost"] = json.dumps({"total_cost": usd})
    if completion is not None:
        said["gen_ai.response.model"] = completion.model
        said["gen_ai.response.finish_reasons"] = [completion.finish_reason]
        tier = completion.usage.tier or request.asked_tier
        said |= {"rlm.tier": tier} if tier else {}
    if result.failure is not None:
        said["error.type"] = str(result.failure.kind)
    return said | _call_content(request, result) if content else said


def _cached(usage: Usage) -> dict[str, AttributeValue]:
    """The cached part of the input. Langfuse would add it to the input, unless all parts are named."""
    parts = {
        "input": usage.input_tokens - usage.cached_tokens,
        "input_cached_tokens": usage.cached_tokens,
        "output": usage.output_tokens,
        "total": usage.total,
    }
    return {
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "langfuse.observation.usage_details": json.dumps(parts),
    }


def _call_content(request: CallRequest, result: CallResult) -> dict[str, str]:
    answer = (
        result.completion.text if result.completion else (result.failure.message if result.failure else "")
    )
    reply = Message(role="assistant", content=answer)
    return {
        "gen_ai.input.messages": _messages(request.messages),
        "gen_ai.output.messages": _messages([reply]),
        "input.value": _messages(request.messages, plain=True),
        "input.mime_type": _JSON,
        "output.value": _cut(answer),
    }


def _messages(messages: Iterable[Message], *, plain: bool = False) -> str:
    """Chat messages as JSON, with parts as OpenTelemetry has them, or plain; all are cut to one length."""
    listed = list(messages)
    most = MOST_CHARS // max(1, len(listed))
    cut = [(message.role, _cut(message.content, most)) for message in listed]
    if plain:
        return json.dumps([{"role": role, "content": text} for role, text in cut], ensure_ascii=False)
    parts = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in cut]
    return json.dumps(parts, ensure_ascii=False)


def job_attributes(spec: JobSpec, *, epoch: int, outcome: Outcome, content: bool) -> Attributes:
    """What the span of a job says."""
    said: dict[str, AttributeValue] = {
        **submit_attributes(spec),
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "rlm",
        "openinference.span.kind": "AGENT",
        "rlm.epoch": epoch,
        "rlm.state": outcome.state.value,
        "rlm.iterations": outcome.iterations,
    }
    if outcome.error is not None:
        said["error.type"] = outcome.error.type
    if content:
        said |= {"input.value": _cut(spec.query), "output.value": _cut(outcome.answer or "")}
    return said


def submit_attributes(spec: JobSpec) -> Attributes:
    """What the span of a submission says."""
    batch = {"rlm.batch_id": spec.batch_id} if spec.batch_id else {}
    return {"openinference.span.kind": "CHAIN", "rlm.job_id": spec.id, **batch}


def turn_attributes(job_id: str, turn: int) -> Attributes:
    """What the span of a turn says."""
    return {"openinference.span.kind": "CHAIN", "rlm.job_id": job_id, "rlm.turn": turn}


def cell_attributes(job_id: str, cell: CellRan, *, content: bool) -> Attributes:
    """What the span of a code block says."""
    said: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "python",
        "openinference.span.kind": "TOOL",
        "tool.name": "python",
        "rlm.job_id": job_id,
        "rlm.turn": cell.turn,
        "rlm.block": cell.block,
        "rlm.calls": cell.calls,
        "rlm.failed_calls": cell.failed_calls,
        "rlm.state_lost": cell.state_lost,
    }
    if content:
        said |= {"input.value": _cut(cell.code), "output.value": _cut(cell.output)}
    return said


def _cut(text: str, most: int = MOST_CHARS) -> str:
    return text if len(text) <= most else f"{text[:most]} [… {len(text) - most:,} characters more]"
