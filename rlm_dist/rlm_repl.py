"""The seed's interface: each call of ``completion(context, query)`` runs as a job of the cluster."""

import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType

from pydantic import SecretStr

from rlm_dist.client.client import Client
from rlm_dist.errors import Cancelled, JobFailed, RLMError
from rlm_dist.schema import Costs, JobState, Result
from rlm_dist.settings import load_settings

SEED_KEYS = (
    "total_cost",
    "root_llm_cost",
    "sub_llm_cost",
    "root_llm_tokens",
    "sub_llm_tokens",
    "root_llm_calls",
    "sub_llm_calls",
)
_NO_QUERY = "Read the context, and answer the question or follow the instruction that it holds."


class RLM(ABC):
    """A model that answers queries about contexts of any length, and counts what that costs."""

    @abstractmethod
    def completion(self, context: object, query: str | None = None) -> str | None:
        """The answer to ``query`` about ``context``; None if there is none within the limits."""

    @abstractmethod
    def cost_summary(self) -> dict[str, float | int | None]:
        """What the calls since the last ``reset`` have used."""

    @abstractmethod
    def reset(self) -> None:
        """Start counting from zero again."""


class RLM_REPL(RLM):  # noqa: N801  # the name is the seed's
    """Runs each completion as a job of the cluster that ``RLM_REDIS_URL`` names, or else of an embedded one.

    Args:
        api_key: key of the model endpoint for embedded workers; workers of a cluster have their own.
        model: root model; ``auto`` is the model that the workers are configured with.
        recursive_model: sub model, likewise.
        max_iterations: the maximum number of root turns; if they are used up, there is no answer.
        max_output_length: how many characters of a turn's output the root model sees.
        depth: for callers of the seed, which does not use it either.
    """

    def __init__(
        self,
        api_key: str | None = None,
        model: str = "auto",
        recursive_model: str = "auto",
        max_iterations: int = 20,
        max_output_length: int = 500_000,
        depth: int = 0,
    ) -> None:
        overrides: dict[str, object] = {
            "max_iterations": max_iterations,
            "max_output_chars": max_output_length,
        }
        if model != "auto":
            overrides["model"] = model
        if recursive_model != "auto":
            overrides["sub_model"] = recursive_model
        if api_key is not None:
            overrides["api_key"] = SecretStr(api_key)
        self.depth = depth
        self._settings = load_settings(**overrides)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._costs: list[Costs] = []

    def completion(self, context: object, query: str | None = None) -> str | None:
        """The answer as text, or None at a limit.

        Raises:
            InputError: the context or the query is empty.
            JobFailed: the job failed.
            Cancelled: somebody cancelled the job.
        """
        with self._lock:
            if self._client is None:
                self._client = Client(self._settings)
            client = self._client
        job = client.submit(context, _NO_QUERY if query is None else query)
        try:
            result = job.result()
        except BaseException:  # nobody else knows the job, and it must not go on costing money
            with suppress(RLMError):
                job.cancel()
            raise
        self._costs.append(result.costs)
        return _answer(result)

    def cost_summary(self) -> dict[str, float | int | None]:
        """Money in USD (None if a price is unknown), tokens and calls, under the seed's names."""
        return {key: _sum([getattr(costs, key) for costs in self._costs]) for key in SEED_KEYS}

    def reset(self) -> None:
        """Start counting from zero again."""
        self._costs = []

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


def _sum(values: list[float | int | None]) -> float | int | None:
    numbers = [value for value in values if value is not None]
    return None if len(numbers) < len(values) else sum(numbers)
