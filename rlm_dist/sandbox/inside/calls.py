"""``llm_query`` and ``llm_query_batched``: they send query frames and block until the host has replied.

Safe for many threads at once. If its caller is interrupted, a request is dropped but not cancelled at the
host; its reply is ignored.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .frames import CHUNK_BYTES, clean, encoded

MAX_PROMPT_BYTES = 16 << 20
_WINDOW = 16  # frames of one batch in flight at a time, to bound the memory at both ends
_FRAME_PROMPTS = 256  # so that the first of many are sent while the others are still being prepared
_MAX_BYTES_PER_CHAR, _BYTES_PER_MESSAGE = 6, 64  # in JSON; the latter is for all but the content
_ROLES = ("system", "user", "assistant")

Prompt = list[dict[str, str]]
Send = Callable[[dict[str, object]], None]


class LLMQueryError(RuntimeError):
    """A call to the sub model failed."""


LLMQueryError.__module__ = "__main__"  # so that it is shown by its bare name


class SubAnswer(str):
    """An answer of the sub model within a batch."""

    ok = True


class Failed(str):
    """Takes the place of a failed answer in a batch; its text says why it failed."""

    ok = False


class _Request:
    """One query frame and the answers received for it."""

    def __init__(self, count: int) -> None:
        self.done = threading.Event()
        self.missing = count
        self.answers: list[dict[str, str]] = [{}] * count

    def fill(self, at: int, answers: list[dict[str, str]]) -> None:
        """Store a part of the answers, the first of which has the index ``at``."""
        self.answers[at : at + len(answers)] = answers
        self.missing -= len(answers)
        if self.missing <= 0:
            self.done.set()


class CallFunctions:
    """The functions for sub-calls that the REPL offers."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ids = itertools.count(1)
        self._open: dict[int, _Request] = {}

    def reply(self, message: dict[str, Any]) -> None:
        """Pass a reply frame to the thread that waits for it."""
        request = self._open.get(message["id"])
        if request is not None:
            request.fill(message["at"], message["answers"])

    def llm_query(self, prompt: Any, model: str | None = None) -> str:
        """Ask the sub model one thing; raises LLMQueryError if the call fails."""
        _check_model(model)
        (answer,) = self._ask([_prompt(prompt, "prompt")], model)
        if "text" not in answer:
            raise LLMQueryError(answer["failure"])
        return answer["text"]

    def llm_query_batched(self, prompts: Iterable[Any], model: str | None = None) -> list[str]:
        """Ask many things at once, answered in order; a failed one is a str whose ``.ok`` is False."""
        _check_model(model)
        if isinstance(prompts, (str, bytes, dict)) or not isinstance(prompts, Iterable):
            raise TypeError(f"llm_query_batched takes a list of prompts, not {type(prompts).__name__}")
        messages = [_prompt(prompt, f"prompts[{i}]") for i, prompt in enumerate(prompts)]
        return [
            SubAnswer(answer["text"])
            if "text" in answer
            else Failed(f"[llm_query failed: {answer['failure']}]")
            for answer in self._ask(messages, model)
        ]

    def _ask(self, prompts: list[Prompt], model: str | None) -> list[dict[str, str]]:
        answers: list[dict[str, str]] = []
        in_flight: deque[tuple[int, _Request]] = deque()
        try:
            for chunk in _chunks(prompts):
                if len(in_flight) == _WINDOW:
                    answers += self._await(in_flight)
                request_id, request = next(self._ids), _Request(len(chunk))
                self._open[request_id] = request
                in_flight.append((request_id, request))
                self._send({"op": "query", "id": request_id, "prompts": chunk, "model": model})
            while in_flight:
                answers += self._await(in_flight)
        finally:
            for request_id, _ in in_flight:
                self._open.pop(request_id, None)
        return answers

    def _await(self, in_flight: deque[tuple[int, _Request]]) -> list[dict[str, str]]:
        request_id, request = in_flight[0]
        request.done.wait()
        in_flight.popleft()
        self._open.pop(request_id, None)
        if "refused" in request.answers[0]:
            for _, other in in_flight:  # all are refused, and none of them counts as a call of a later block
                other.done.wait()
            raise ValueError(request.answers[0]["refused"])
        return request.answers


def rlm_query(*args: object, **kwargs: object) -> str:
    """Raise NotImplementedError: recursion deeper than one level does not exist yet."""
    raise NotImplementedError(
        "rlm_query is not available: recursion deeper than one level is not there yet. "
        "Use llm_query(prompt) or llm_query_batched(prompts) instead."
    )


def rlm_query_batched(*args: object, **kwargs: object) -> list[str]:
    """Raise NotImplementedError: recursion deeper than one level does not exist yet."""
    raise NotImplementedError(
        "rlm_query_batched is not available: recursion deeper than one level is not there yet. "
        "Use llm_query_batched(prompts) instead."
    )


def _check_model(model: object) -> None:
    if model is not None and not isinstance(model, str):
        raise TypeError(f"model must be a str or None, not {type(model).__name__}")
    if model is not None and not model.strip():
        raise ValueError("model is empty; leave it out to use the default sub model")


def _prompt(prompt: object, name: str) -> Prompt:
    """``prompt`` as chat messages."""
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": clean(prompt)}]
    elif isinstance(prompt, (list, tuple)):
        messages = [_message(item, f"{name}[{i}]") for i, item in enumerate(prompt)]
    else:
        raise TypeError(
            f"{name} must be a str or a list of messages such as "
            f'[{{"role": "user", "content": "..."}}], not {type(prompt).__name__}'
        )
    if not any(message["content"].strip() for message in messages):
        raise ValueError(f"{name} is empty: there is nothing to ask")
    # Encoding takes time in which no prompt is sent, so only prompts that may be too long are encoded.
    max_size = sum(_BYTES_PER_MESSAGE + _MAX_BYTES_PER_CHAR * len(message["content"]) for message in messages)
    size = len(encoded(messages)) if max_size > MAX_PROMPT_BYTES else max_size
    if size > MAX_PROMPT_BYTES:
        raise ValueError(f"{name} has {size:,} bytes, and at most {MAX_PROMPT_BYTES:,} can be sent: split it")
    return messages


def _message(item: object, name: str) -> dict[str, str]:
    if not isinstance(item, dict) or set(item) != {"role", "content"}:
        raise TypeError(f'{name} must be a dict with "role" and "content", not {item!r:.200}')
    role, content = item["role"], item["content"]
    if role not in _ROLES:
        raise ValueError(f"{name}: role must be one of {', '.join(_ROLES)}, not {role!r:.200}")
    if not isinstance(content, str):
        raise TypeError(f"{name}: content must be a str, not {type(content).__name__}")
    return {"role": role, "content": clean(content)}


def _chunks(prompts: list[Prompt]) -> Iterator[list[Prompt]]:
    """The prompts in groups that each fit into one frame."""
    group: list[Prompt] = []
    size = 0
    for prompt in prompts:
        length = len(encoded(prompt))
        if group and (size + length > CHUNK_BYTES or len(group) == _FRAME_PROMPTS):
            yield group
            group, size = [], 0
        group.append(prompt)
        size += length
    if group:
        yield group
