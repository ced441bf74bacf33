"""The windows of root models: named by the user, learned from errors, or published."""

from collections.abc import Callable, Mapping
from functools import lru_cache

from rlm_dist.errors import CallError
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.schema import Message

_MOST_MODELS = 100


class ModelWindows:
    """The tokens of models' windows; what one job of a process learns, the next ones know."""

    def __init__(self, own: Mapping[str, int], published: Callable[[str], int | None]) -> None:
        self._own = own
        self._published = lru_cache(_MOST_MODELS)(published)  # every turn asks
        self._learned: dict[str, int] = {}

    def tokens(self, model: str) -> int | None:
        """The window of a model; None if it is not known."""
        return self._learned.get(model) or self._own.get(model) or self._published(model)

    def learn(self, model: str, tokens: int) -> None:
        """Take note of the window that an endpoint's error names."""
        if model in self._learned or len(self._learned) < _MOST_MODELS:
            self._learned[model] = tokens


def summariser(fan_out: FanOut) -> Callable[[str], str | None]:
    """A function that asks the job's sub model for a summary, as one of its sub-calls; None if that fails."""

    def summarise(prompt: str) -> str | None:
        try:
            (answer,) = fan_out.query([(Message(role="user", content=prompt),)], None)
        except CallError:
            return None
        fan_out.take_limits()  # that there is no room for a summary does not end the work
        return answer.text

    return summarise
