"""``llm_query``, ``rlm_query`` and their batched forms: they send query frames and await the host's replies.

Safe for many threads at once. If its caller is interrupted, a request is dropped but not cancelled at the
host; its reply is ignored.
"""

import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .frames import (
    CHUNK_BYTES,
    MAX_MESSAGES,
    MAX_MODEL_CHARS,
    MAX_PROMPTS,
    MAX_SCHEMA_BYTES,
    clean,
    encoded,
)

MAX_PROMPT_BYTES = 16 << 20
_WINDOW = 16  # frames of one batch in flight at a time, to bound the memory at both ends
_FRAME_MESSAGES = 10_000
_MAX_BYTES_PER_CHAR, _BYTES_PER_MESSAGE = 6, 64  # in JSON; the latter is for all but the content
_ROLES = ("system", "user", "assistant")

Prompt = list[dict[str, str]]
Schema = dict[str, Any] | None
Send = Callable[[dict[str, object]], None]


class LLMQueryError(RuntimeError):
    """A call to the sub model failed."""


LLMQueryError.__module__ = "__main__"  # so that it is shown by its bare name


class SubAnswer(str):
    """An answer of the sub model; ``truncated`` says that it was cut off at the output limit."""

    ok = True
    truncated = False


class Failed(str):
    """Takes the place of a failed answer in a batch; its text says why it failed."""

    ok = False
    truncated = False


class _Request:
    """One query frame and the answers received for it."""

    def __init__(self, count: int) -> None:
        self.done = threading.Event()
        self.missing = count
        self.answers: list[dict[str, Any]] = [{}] * count

    def fill(self, at: int, answers: list[dict[str, Any]]) -> None:
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

    def llm_query(self, prompt: Any, model: str | None = None, schema: Schema = None) -> Any:
        """Ask the sub model one thing; raises LLMQueryError if the call fails.

        The answer is a str or, with ``schema`` (a JSON Schema), the value that conforms to it.
        """
        _check_model(model)
        schema = _checked_schema(schema)
        (answer,) = self._ask([_prompt(prompt, "prompt")], model, schema)
        if "text" not in answer:
            raise LLMQueryError(answer["failure"])
        return _sub_answer(answer, schema)

    def llm_query_batched(
        self, prompts: Iterable[Any], model: str | None = None, schema: Schema = None
    ) -> list[Any]:
        """Ask many things at once, answered in order; a failed one is a str whose ``.ok`` is False."""
        _check_model(model)
        schema = _checked_schema(schema)
        if isinstance(prompts, (str, bytes, dict)) or not isinstance(prompts, Iterable):
            raise TypeError(f"llm_query_batched takes a list of prompts, not {type(prompts).__name__}")
        messages = [_prompt(prompt, f"prompts[{i}]") for i, prompt in enumerate(prompts)]
        return [
            _sub_answer(answer, schema)
            if "text" in answer
            else Failed(f"[llm_query failed: {answer['failure']}]")
            for answer in self._ask(messages, model, schema)
        ]

    def rlm_query(self, prompt: Any, context: Any = None, model: str | None = None) -> Any:
        """Ask one thing about a context; at this depth it is a plain ``llm_query``.

        The sub model gets the prompt, an empty line, the line "Context:" and the context. Of a list or dict,
        each item follows a line "[its index or key]"; what is no str in it is written as JSON.
        """
        return self.llm_query(_with_context(prompt, context, "context"), model)

    def rlm_query_batched(
        self, prompts: Iterable[Any], contexts: Iterable[Any] | None = None, model: str | None = None
    ) -> list[Any]:
        """As ``llm_query_batched``; ``contexts`` has one context for each prompt, as in ``rlm_query``."""
        if contexts is None or isinstance(prompts, (str, bytes, dict)) or not isinstance(prompts, Iterable):
            return self.llm_query_batched(prompts, model)
        if isinstance(contexts, (str, bytes, dict)) or not isinstance(contexts, Iterable):
            raise TypeError(
                "rlm_query_batched takes a list with one context for each prompt, "
                f"not {type(contexts).__name__}"
            )
        prompts, contexts = list(prompts), list(contexts)
        if len(prompts) != len(contexts):
            raise ValueError(f"there are {len(prompts):,} prompts and {len(contexts):,} contexts")
        pairs = enumerate(zip(prompts, contexts, strict=True))
        return self.llm_query_batched(
            [_with_context(prompt, context, f"contexts[{i}]") for i, (prompt, context) in pairs], model
        )

    def _ask(self, prompts: list[Prompt], model: str | None, schema: Schema = None) -> list[dict[str, Any]]:
        return self.send_all(_frames(prompts, model, schema))

    def send_all(self, frames: Iterable[tuple[dict[str, object], int]]) -> list[dict[str, Any]]:
        """Send frames, each with the number of its answers; return all answers in order."""
        answers: list[dict[str, Any]] = []
        in_flight: deque[tuple[int, _Request]] = deque()
        try:
            for frame, count in frames:
                if len(in_flight) == _WINDOW:
                    answers += self._await(in_flight)
                request_id, request = next(self._ids), _Request(count)
                self._open[request_id] = request
                in_flight.append((request_id, request))
                self._send({**frame, "id": request_id})
            while in_flight:
                answers += self._await(in_flight)
        finally:
            for request_id, _ in in_flight:
                self._open.pop(request_id, None)
        return answers

    def _await(self, in_flight: deque[tuple[int, _Request]]) -> list[dict[str, Any]]:
        request_id, request = in_flight[0]
        request.done.wait()
        in_flight.popleft()
        self._open.pop(request_id, None)
        if "refused" in request.answers[0]:
            for _, other in in_flight:  # all are refused, and none of them counts as a call of a later block
                other.done.wait()
            raise ValueError(request.answers[0]["refused"])
        return request.answers


def _sub_answer(answer: dict[str, Any], schema: Schema = None) -> Any:
    if schema is not None:
        value = json.loads(answer["text"])
        return SubAnswer(value) if isinstance(value, str) else value
    text = SubAnswer(answer["text"])
    if answer.get("truncated"):
        text.truncated = True
    return text


def _checked_schema(schema: object) -> Schema:
    """A copy of a schema, which the host then checks; None if it is None."""
    if schema is None:
        return None
    if not isinstance(schema, dict):
        raise TypeError(f"schema must be a dict (a JSON Schema) or None, not {type(schema).__name__}")
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"schema is not JSON: {error}") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise ValueError(f"schema has {len(text):,} bytes, and at most {MAX_SCHEMA_BYTES:,} are allowed")
    copy: Schema = json.loads(text)
    return copy


def _check_model(model: object) -> None:
    if model is not None and not isinstance(model, str):
        raise TypeError(f"model must be a str or None, not {type(model).__name__}")
    if model is not None and not model.strip():
        raise ValueError("model is empty; leave it out to use the default sub model")
    if model is not None and len(model) > MAX_MODEL_CHARS:
        raise ValueError(
            f"model has {len(model):,} characters; no model has a name of over {MAX_MODEL_CHARS}"
        )


def _with_context(prompt: Any, context: object, name: str) -> Any:
    """The prompt with the context after it; of a message list, the context is in a last message."""
    if context is None:
        return prompt
    text = f"Context:\n{_context_text(context, name)}"
    if isinstance(prompt, str):
        return f"{prompt}\n\n{text}" if prompt.strip() else prompt
    if isinstance(prompt, (list, tuple)):
        return [*prompt, {"role": "user", "content": text}]
    return prompt


def _context_text(context: object, name: str) -> str:
    if isinstance(context, str):
        return context
    if isinstance(context, (list, tuple)):
        items: Iterable[tuple[object, object]] = enumerate(context)
    elif isinstance(context, dict):
        items = context.items()
    else:
        raise TypeError(f"{name} must be a str, list or dict, not {type(context).__name__}")
    return "\n\n".join(f"[{key}]\n{_item_text(value)}" for key, value in items)


def _item_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _prompt(prompt: object, name: str) -> Prompt:
    """``prompt`` as chat messages."""
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": clean(prompt)}]
    elif isinstance(prompt, (list, tuple)):
        if len(prompt) > MAX_MESSAGES:
            raise ValueError(f"{name} has {len(prompt):,} messages, and at most {MAX_MESSAGES:,} can be sent")
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


def _frames(
    prompts: list[Prompt], model: str | None, schema: Schema
) -> Iterator[tuple[dict[str, object], int]]:
    extra = {} if schema is None else {"schema": schema}
    for chunk in _chunks(prompts):
        yield {"op": "query", "prompts": chunk, "model": model, **extra}, len(chunk)


def _chunks(prompts: list[Prompt]) -> Iterator[list[Prompt]]:
    """The prompts in groups that each fit into one frame."""
    group: list[Prompt] = []
    size = messages = 0
    for prompt in prompts:
        length = len(encoded(prompt))
        full = size + length > CHUNK_BYTES or messages + len(prompt) > _FRAME_MESSAGES
        if group and (full or len(group) == MAX_PROMPTS):
            yield group
            group, size, messages = [], 0, 0
        group.append(prompt)
        size += length
        messages += len(prompt)
    if group:
        yield group
