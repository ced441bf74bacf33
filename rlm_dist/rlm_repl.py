"""The seed's interface: each call of ``completion(context, query)`` runs as a job of the cluster."""

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any

from pydantic import SecretStr

from rlm_dist.client.client import Client
from rlm_dist.client.handles import Job
from rlm_dist.errors import Cancelled, JobFailed, RLMError
from rlm_dist.schema import REPL_NAMES, Costs, JobState, Result
from rlm_dist.schema.events import (
    CellRan,
    ChildrenAnswered,
    Event,
    JobEnded,
    JobStarted,
    MessageAdded,
    RootReplied,
    SubCallsAnswered,
    ToolCalled,
)
from rlm_dist.settings import load_settings

_NO_QUERY = "Read the context, and answer the question or follow the instruction that it holds."


class RLM(ABC):
    """A model that answers queries about contexts of any length, and counts what that costs."""

    @abstractmethod
    def completion(self, context: object, query: str | None = None) -> str | None:
        """The answer to ``query`` about ``context``; None if there is none within the limits."""

    @abstractmethod
    def cost_summary(self) -> dict[str, float]:
        """What the calls since the last ``reset`` have used."""

    @abstractmethod
    def reset(self) -> None:
        """Start again: no costs, no messages."""


@dataclass(frozen=True)
class ReplView:
    """What is left of a completion's REPL, which ran on a worker and has ended.

    ``locals`` maps ``context`` to the context, and ``answer`` to the answer that was handed in, or else the
    draft, as ``{"content", "ready"}``. Other variables are gone. ``globals`` has the names of the REPL's own
    functions.
    """

    locals: Mapping[str, object]
    globals: frozenset[str]


class RLM_REPL(RLM):  # noqa: N801  # the name is the seed's
    """Runs each completion as a job of the cluster that ``RLM_REDIS_URL`` names, or else of an embedded one.

    ``model``, ``recursive_model``, ``max_iterations`` and ``enable_logging`` may be set between completions.
    Of the completion that ended last, ``messages`` is the root model's chat, ``query`` the question, and
    ``repl_env`` what is left of the REPL.

    Args:
        api_key: key of the model endpoint for embedded workers; workers of a cluster have their own.
        model: root model; ``auto`` is the model that the workers are configured with.
        recursive_model: sub model, likewise.
        max_iterations: the maximum number of root turns; if they are used up, there is no answer.
        max_output_length: how many characters of a turn's output the root model sees.
        depth: for callers of the seed, which does not use it either.
        enable_logging: write on stderr what happens in a job, one line an event, without any texts.
    """

    messages: list[dict[str, str]]
    query: str | None
    repl_env: ReplView | None

    def __init__(
        self,
        api_key: str | None = None,
        model: str = "auto",
        recursive_model: str = "auto",
        max_iterations: int = 20,
        max_output_length: int = 500_000,
        depth: int = 0,
        enable_logging: bool = False,
    ) -> None:
        overrides: dict[str, object] = {
            "max_iterations": max_iterations,
            "max_output_chars": max_output_length,
        }
        if api_key is not None:
            overrides["api_key"] = SecretStr(api_key)
        self.model = model
        self.recursive_model = recursive_model
        self.max_iterations = max_iterations
        self.depth = depth
        self.enable_logging = enable_logging
        self._settings = load_settings(**overrides)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self.reset()

    @property
    def max_output_length(self) -> int:
        """How many characters of a turn's output the root model sees."""
        return self._settings.max_output_chars

    def completion(self, context: object, query: str | None = None) -> str | None:
        """The answer as text, or None at a limit.

        Args:
            context: a str, a list, a dict or another JSON value; of a list of chat messages, their contents.
            query: the question; without one, the context is to hold it.

        Raises:
            InputError: the context or the query is empty, or an attribute has a bad value.
            JobFailed: the job failed.
            Cancelled: somebody cancelled the job.
        """
        with self._lock:
            if self._client is None:
                self._client = Client(self._settings)
            client = self._client
        shown = _contents(context)
        asked = _NO_QUERY if query is None else query
        job = client.submit(shown, asked, **self._options())
        try:
            result = self._follow(job)
        except BaseException:  # nobody else knows the job, and it must not go on costing money
            with suppress(RLMError):
                job.cancel()
            raise
        self.query = asked
        self.repl_env = _view(shown, result)
        self._costs.append(result.costs)
        return _answer(result)

    def _options(self) -> dict[str, Any]:
        models = {"model": self.model, "sub_model": self.recursive_model}
        named = {option: name for option, name in models.items() if name != "auto"}
        return {"max_iterations": self.max_iterations, **named}

    def _follow(self, job: Job) -> Result:
        """Wait for the job's result, and keep its chat."""
        if not self.enable_logging:
            job.result()  # sooner than the events, which are then all there
        messages: list[dict[str, str]] = []
        for event in job.events():
            if self.enable_logging and (line := _log_line(event)):
                sys.stderr.write(line + "\n")
            if isinstance(event, JobStarted):
                messages = []  # a worker that takes a job over tells its chat from the start
            elif isinstance(event, MessageAdded):
                messages.append({"role": event.role, "content": event.text})
        self.messages = messages
        return job.result()

    def cost_summary(self) -> dict[str, float]:
        """Money in USD, tokens and calls, under the seed's names.

        What has no known price counts as 0.0, and ``unpriced`` is then True.
        """
        root = sum((costs.root_llm_cost or 0.0 for costs in self._costs), 0.0)
        sub = sum((costs.sub_llm_cost or 0.0 for costs in self._costs), 0.0)
        return {
            "total_cost": root + sub,
            "root_llm_cost": root,
            "sub_llm_cost": sub,
            "root_llm_tokens": sum(costs.root_llm_tokens for costs in self._costs),
            "sub_llm_tokens": sum(costs.sub_llm_tokens for costs in self._costs),
            "root_llm_calls": sum(costs.root_llm_calls for costs in self._costs),
            "sub_llm_calls": sum(costs.sub_llm_calls for costs in self._costs),
            "unpriced": any(costs.total_cost is None for costs in self._costs),
        }

    def reset(self) -> None:
        """Start again: no costs, no messages, no REPL."""
        self._costs: list[Costs] = []
        self.messages = []
        self.repl_env = None
        self.query = None

    def close(self) -> None:
        """Stop the embedded cluster, if there is one; the next completion starts another."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def __enter__(self) -> "RLM_REPL":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _answer(result: Result) -> str | None:
    if result.state is JobState.CANCELLED:
        raise Cancelled(result.id)
    if result.state is JobState.FAILED:
        error = result.error
        raise JobFailed(result.id, error.type if error else "unknown", error.message if error else "")
    return result.answer


def _contents(context: object) -> object:
    """The context as the seed's REPL shows it: of a list of chat messages, the list of their contents."""
    if not isinstance(context, list) or not context:
        return context
    if not all(isinstance(item, dict) and "content" in item for item in context):
        return context
    return ["" if item["content"] is None else item["content"] for item in context]


def _view(context: object, result: Result) -> ReplView:
    content = result.answer if result.answer_json is None else result.answer_json
    ready = result.state is JobState.SUCCEEDED
    answer = {"content": content if ready else result.partial_answer, "ready": ready}
    return ReplView(
        MappingProxyType({"context": context, "answer": answer}), REPL_NAMES - {"context", "answer"}
    )


def _log_line(event: Event) -> str | None:
    match event:
        case JobStarted():
            return f"job {event.job_id} on {event.worker}: a context of {event.context.chars:,} characters"
        case RootReplied():
            return f"turn {event.turn}: the root model replied in {event.seconds:.1f} s"
        case CellRan():
            return f"turn {event.turn}: code ran {event.seconds:.1f} s" + (
                " and raised" if event.error else ""
            )
        case SubCallsAnswered():
            return f"{event.calls:,} sub-calls answered in {event.seconds:.1f} s, {event.failed:,} failed"
        case ChildrenAnswered():
            return f"{event.children:,} child jobs ended in {event.seconds:.1f} s, {event.failed:,} failed"
        case ToolCalled():
            return f"tool {event.name}: {event.seconds:.1f} s" + ("" if event.ok else ", failed")
        case JobEnded():
            return f"{event.state} after {event.iterations} turns"
    return None
