"""What the simulated endpoint served, counted by itself: requests, and the tokens of the usage it reported.

A message has a quarter as many tokens as characters, rounded up. Cached tokens are those of the longest head
of the chat (in whole messages) with which an earlier chat began, or which was all of it.
"""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from rlm_dist.schema import Message, Usage, Wire

CHARS_PER_TOKEN = 4


class ModelServed(Wire):
    """The requests that one model answered with reported usage, and their usage."""

    requests: int = 0
    usage: Usage = Usage()


class Served(Wire):
    """A snapshot of the count.

    - ``requests``: all model requests that came in; ``answered``: those that got a response with usage.
    - ``faults``: faults by kind. ``no_chat`` counts requests for a chat route that was left out, ``capacity``
      those refused because of the load, and ``noise`` those refused at random.
    - ``by_parameters``: requests by role and by their fields other than model and prompt.
    - ``aborted``: requests that the client gave up.
    """

    requests: int = 0
    answered: int = 0
    usage: Usage = Usage()
    by_model: dict[str, ModelServed] = Field(default={})
    by_role: dict[str, int] = Field(default={})
    by_parameters: dict[str, int] = Field(default={})
    faults: dict[str, int] = Field(default={})
    aborted: int = 0
    model_lists: int = 0
    in_flight: int = 0
    max_in_flight: int = 0


def tokens(text: str) -> int:
    """The number of tokens of one text."""
    return -(-len(text) // CHARS_PER_TOKEN)


@dataclass
class Tally:
    """The running count; written by the server's thread, read by any thread."""

    requests: int = 0
    aborted: int = 0
    model_lists: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    _models: dict[str, ModelServed] = field(default_factory=dict)
    _roles: Counter[str] = field(default_factory=Counter)
    _parameters: Counter[str] = field(default_factory=Counter)
    _faults: Counter[str] = field(default_factory=Counter)
    _heads: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arrived(self, role: str, parameters: Mapping[str, object]) -> int:
        """Count a request that arrived; return its ordinal among those of its role, from 0."""
        parameters_key = f"{role} {json.dumps(parameters, sort_keys=True)}"
        with self._lock:
            self.requests += 1
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self._roles[role] += 1
            self._parameters[parameters_key] += 1
            return self._roles[role] - 1

    def left(self, *, aborted: bool) -> None:
        """Count a request that has ended."""
        with self._lock:
            self.in_flight -= 1
            self.aborted += aborted

    def listed(self) -> None:
        """Count a request for the list of models."""
        with self._lock:
            self.model_lists += 1

    def faulted(self, kind: str) -> None:
        """Count a fault."""
        with self._lock:
            self._faults[kind] += 1

    def answered(self, model: str, messages: Sequence[Message], text: str) -> Usage:
        """Count an answer; return the usage to report for it."""
        usage = Usage(
            input_tokens=sum(tokens(message.content) for message in messages),
            cached_tokens=self._cached(messages),
            output_tokens=tokens(text),
        )
        with self._lock:
            line = self._models.get(model, ModelServed())
            self._models[model] = ModelServed(requests=line.requests + 1, usage=line.usage + usage)
        return usage

    def snapshot(self) -> Served:
        """The count as it is now."""
        with self._lock:
            models = dict(self._models)
            return Served(
                requests=self.requests,
                answered=sum(line.requests for line in models.values()),
                usage=sum((line.usage for line in models.values()), Usage()),
                by_model=models,
                by_role=dict(self._roles),
                by_parameters=dict(self._parameters),
                faults=dict(self._faults),
                aborted=self.aborted,
                model_lists=self.model_lists,
                in_flight=self.in_flight,
                max_in_flight=self.max_in_flight,
            )

    def _cached(self, messages: Sequence[Message]) -> int:
        """The tokens of the longest head that came before; the head of a one-message chat is not recorded."""
        if len(messages) < 2:
            return 0
        cached = total = head = 0
        for message in messages:
            head = hash((head, message.role, message.content))
            total += tokens(message.content)
            if head in self._heads:
                cached = total
            self._heads.add(head)
        return cached
