"""``rlm_query`` of a job that has child jobs: contexts go to the host in pieces, a frame asks.

When a call is over, the host is asked to forget its contexts. The context that the REPL was started
with is not sent: it goes by the name ``own``, unless the code has changed it.
"""

import base64
import itertools
import json
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .calls import CallFunctions, Failed, LLMQueryError, SubAnswer, _check_model, _chunks, _prompt
from .frames import MAX_UPLOADS, PIECE_BYTES

_TEXT_CHARS = 1 << 20
_HEADER = json.JSONEncoder(separators=(",", ":"))

Wait = Callable[[dict[str, object]], None]


class ChildFunctions:
    """``rlm_query`` and ``rlm_query_batched`` as child jobs; ``send_slowly`` waits for the writer."""

    def __init__(
        self, calls: CallFunctions, own_context: object, max_context_bytes: int, send_slowly: Wait
    ) -> None:
        self._calls = calls
        self._own = own_context
        self._own_items = _items(own_context)
        self._max_bytes = max_context_bytes
        self._send_slowly = send_slowly
        self._ids = itertools.count(1)
        self._one_at_a_time = threading.Lock()

    def rlm_query(self, prompt: Any, context: Any = None, model: str | None = None) -> str:
        """Let a model with a REPL of its own answer a question about a context; raises LLMQueryError.

        The context may be large: a str, list or dict. Without one, the question is all there is.
        """
        _check_model(model)
        _check_context(context, "context")
        (answer,) = self._ask([_question(prompt, "prompt")], [context], model)
        if "text" not in answer:
            raise LLMQueryError(answer["failure"])
        return SubAnswer(answer["text"])

    def rlm_query_batched(
        self, prompts: Iterable[Any], contexts: Iterable[Any] | None = None, model: str | None = None
    ) -> list[str]:
        """Many at once, in order, each with its context; a failed one is a str with ``.ok`` False."""
        _check_model(model)
        questions = [_question(item, f"prompts[{i}]") for i, item in enumerate(_list(prompts, "prompts"))]
        given = [None] * len(questions) if contexts is None else _list(contexts, "contexts")
        if len(questions) != len(given):
            raise ValueError(f"there are {len(questions):,} prompts and {len(given):,} contexts")
        for i, context in enumerate(given):
            _check_context(context, f"contexts[{i}]")
        if len({id(context) for context in given}) > MAX_UPLOADS:
            raise ValueError(f"there are more than {MAX_UPLOADS:,} contexts: ask in several calls")
        return [
            SubAnswer(answer["text"])
            if "text" in answer
            else Failed(f"[rlm_query failed: {answer['failure']}]")
            for answer in self._ask(questions, given, model)
        ]

    def _ask(
        self, questions: Sequence[str], contexts: Sequence[Any], model: str | None
    ) -> list[dict[str, Any]]:
        sent: dict[int, int] = {}  # of each context, by its identity, the id under which the host has it
        try:
            return self._calls.send_all(self._frames(questions, contexts, model, sent))
        finally:
            if sent:
                self._send_slowly({"op": "forget", "ids": list(sent.values())})

    def _frames(
        self, questions: Sequence[str], contexts: Sequence[Any], model: str | None, sent: dict[int, int]
    ) -> Iterator[tuple[dict[str, object], int]]:
        at = 0
        for chunk in _chunks([[{"role": "user", "content": question}] for question in questions]):
            part = slice(at, at + len(chunk))
            at += len(chunk)
            names = [self._name(context, sent) for context in contexts[part]]
            frame: dict[str, object] = {
                "op": "children",
                "prompts": list(questions[part]),
                "contexts": names,
                "model": model,
            }
            yield frame, len(chunk)

    def _name(self, context: Any, sent: dict[int, int]) -> int | str | None:
        """What the host knows a context by; it is sent if the host does not have it yet."""
        if context is None:
            return None
        if context is self._own and self._own_items is not None and self._own_items == _items(context):
            return "own"
        if id(context) not in sent:
            with self._one_at_a_time:
                sent[id(context)] = upload_id = next(self._ids)
                self._upload(upload_id, context)
        return sent[id(context)]

    def _upload(self, upload_id: int, context: Any) -> None:
        size = 0
        pieces = _joined(encode(context))
        piece = next(pieces)
        while piece:
            size += len(piece)
            if size > self._max_bytes:
                raise ValueError(f"a context may have at most {self._max_bytes:,} bytes: split it")
            following = next(pieces, b"")
            data = base64.b64encode(piece).decode()
            self._send_slowly({"op": "upload", "id": upload_id, "data": data, "last": not following})
            piece = following


def encode(value: Any) -> Iterator[bytes]:
    """A context in the form that ``rlm_dist.contexts.encoding`` owns."""
    kind, texts = _texts(value)
    header = {"v": 1, "kind": kind, "n": len(texts), "several": False, "named": False}
    yield _HEADER.encode(header).encode() + b"\n"
    for start in range(0, len(texts), _TEXT_CHARS):
        sizes = [_size(text) for text in texts[start : start + _TEXT_CHARS]]
        yield struct.pack(f"<{len(sizes)}Q", *sizes)
    for text in texts:
        yield from _encoded_text(text)


def _texts(value: Any) -> tuple[str, Sequence[str]]:
    if isinstance(value, str):
        return "str", [value]
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return "list", value
    if isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair):
        return "dict", [part for pair in value.items() for part in pair]
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"a context must be text, or what JSON can hold: {error}") from None
    return "json", [text]


def _size(text: str) -> int:
    return len(text) if text.isascii() else sum(map(len, _encoded_text(text)))


def _encoded_text(text: str) -> Iterator[bytes]:
    for start in range(0, len(text), _TEXT_CHARS):
        yield text[start : start + _TEXT_CHARS].encode("utf-8", "surrogatepass")


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of ``PIECE_BYTES``; the last one may be shorter."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= PIECE_BYTES:
            yield bytes(buffer[:PIECE_BYTES])
            del buffer[:PIECE_BYTES]
    if buffer:
        yield bytes(buffer)


class _Same:
    """Items that are equal only if they are the same objects."""

    def __init__(self, items: Iterable[object]) -> None:
        self._items = tuple(items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same) or len(self._items) != len(other._items):
            return False
        return all(a is b for a, b in zip(self._items, other._items, strict=True))

    __hash__ = None  # type: ignore[assignment]


def _items(context: object) -> _Same | None:
    """By what a context is seen to be unchanged; None if it holds what may change inside."""
    if isinstance(context, str):
        return _Same([context])
    if isinstance(context, list) and all(isinstance(item, str) for item in context):
        return _Same(context)
    if isinstance(context, dict) and all(isinstance(part, str) for pair in context.items() for part in pair):
        return _Same(itertools.chain.from_iterable(context.items()))
    return None


def _question(prompt: Any, name: str) -> str:
    """The question; of a message list, the contents of all messages."""
    return "\n\n".join(message["content"] for message in _prompt(prompt, name))


def _check_context(context: Any, name: str) -> None:
    if context is not None and not isinstance(context, (str, list, tuple, dict)):
        raise TypeError(f"{name} must be a str, list or dict, not {type(context).__name__}")


def _list(values: Any, name: str) -> list[Any]:
    if isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable):
        raise TypeError(f"rlm_query_batched takes a list of {name}, not {type(values).__name__}")
    return list(values)
