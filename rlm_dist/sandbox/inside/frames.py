"""The frame format between host and child, used by both ends.

A frame is a big-endian 4-byte length N, then N bytes of UTF-8 JSON: one object with a member ``op``. N is at
most ``MAX_FRAME``. Lone surrogates are replaced before sending, so a frame is always valid UTF-8.

child to host::

    {"op": "ready"}                         the context is loaded
    {"op": "broken", "detail": str}         the context cannot be loaded; the child ends
    {"op": "query", "id": int, "prompts": [[{"role", "content"}, ...], ...], "model": str | null,
     "schema": {...}}                       the JSON Schema that the answers must conform to; may be left out
    {"op": "upload", "id": int, "data": base64, "last": bool}      a piece of an encoded context
    {"op": "forget", "ids": [int, ...]}     these contexts are no longer needed
    {"op": "children", "id": int, "prompts": [str, ...], "contexts": [int | "own" | null, ...],
     "model": str | null}
    {"op": "tool", "id": int, "name": str, "arguments": str}     JSON: {"args": [...], "kwargs": {...}}
    {"op": "done", "cell": int, "output": {"head", "tail", "omitted"}, "error": str | null,
     "final": null | {"text": str, "json": str | null, "by": str}, "partial": str | null, "names": [str]}
    {"op": "resolved", "found": bool, "final": as above, "names": [str]}
    {"op": "begun", "variables": [str]}     a line for each variable of the model's code

host to child::

    {"op": "start", "limits": {...}, "max_output_chars": int, "max_context_bytes": int | null,
     "tools": [...]}                        as in ``tools.ToolFunctions``
    {"op": "run", "cell": int, "code": str, "began_ns": int}
    {"op": "resolve", "path": str}
    {"op": "begin", "added": int, "ended": null | {"query": str, "answer": str | null}}
    {"op": "reply", "id": int, "at": int,
     "answers": [{"text": str, "truncated": true} | {"failure": str}, ...]}

    {"op": "tool_reply", "id": int, "result": str}               JSON
    {"op": "tool_reply", "id": int, "failure": {"type": str, "message": str}}

``partial`` is the draft in ``answer``; null if there is none, or if it is the last one that was sent.
Contexts are sent one at a time, with ascending ids; a new one gives up one that is not complete. Each may
have ``max_context_bytes``; that is null if the job has no children, and then none of these frames is sent.
``begin`` starts the next query of a session, after ``ended``; ``added`` contexts are visible from then on.
A reply may come in several frames; ``at`` is the index of its first answer. ``truncated`` is there if the
text was cut off at the output limit. If there was a schema, the text is the JSON of a value.
"""

import json
import re
from collections.abc import Callable

MAX_FRAME = 32 << 20
MAX_TEXT_BYTES = 8 << 20  # one answer or partial answer; a "done" frame holds two of them
CHUNK_BYTES = 8 << 20  # prompts and answers beyond this go out in several frames
# What the host takes in one frame; the child keeps within these, so that no honest block breaks the protocol.
MAX_PROMPTS = 256  # also so that the first of many are sent while the others are still being prepared
MAX_MESSAGES = 1000  # of one prompt
MAX_MODEL_CHARS = 200
MAX_SCHEMA_BYTES = 64 << 10  # as JSON in ASCII
PIECE_BYTES = 3 << 20  # of a context that is sent to the host, before base64
MAX_UPLOADS = 10_000  # contexts that the host holds for a REPL
MAX_PARTIAL_BYTES = 1 << 20
MAX_TOOL_BYTES = 1 << 20  # the arguments of a tool's call, or its result
MAX_JSON_CHARS = 1 << 20
MAX_ERROR_CHARS = 8000
MAX_DETAIL_CHARS = 2000
MAX_NAMES = 100
MAX_NAME_CHARS = 200
MAX_LINE_CHARS = MAX_NAME_CHARS + 300  # of a variable: its name, type and size
_HEAD = 4
_READ = 1 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")


class FrameError(Exception):
    """A frame is malformed, or over the limit."""


def clean(text: str) -> str:
    """``text`` with lone surrogates replaced, so that it can be sent and stored."""
    return _SURROGATE.sub("\ufffd", text)


def encoded(value: object) -> bytes:
    """``value`` as UTF-8 JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return clean(text).encode()


def pack(message: dict[str, object]) -> bytes:
    """One frame, ready to send.

    Raises:
        FrameError: the payload is over the limit.
    """
    payload = encoded(message)
    if len(payload) > MAX_FRAME:
        raise FrameError(f"a frame of {len(payload)} bytes is over the limit of {MAX_FRAME}")
    return len(payload).to_bytes(_HEAD, "big") + payload


def receive(read: Callable[[int], bytes]) -> bytes | None:
    """The payload of the next frame, or None at a clean end of the stream.

    ``read(n)`` returns 1 to n bytes, or none at the end of the stream. Memory grows with the bytes received,
    not with the length that a frame claims.

    Raises:
        FrameError: the length is zero or over the limit, or the stream ends inside a frame.
    """
    head = _read(read, _HEAD)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    if len(head) < _HEAD or not 0 < length <= MAX_FRAME:
        raise FrameError(f"a frame head of {bytes(head)!r}")
    payload = _read(read, length)
    if len(payload) < length:
        raise FrameError(f"the stream ended {length - len(payload)} bytes before the end of a frame")
    return bytes(payload)


def _read(read: Callable[[int], bytes], length: int) -> bytearray:
    data = bytearray()
    while len(data) < length:
        piece = read(min(length - len(data), _READ))
        if not piece:
            break
        data += piece
    return data
