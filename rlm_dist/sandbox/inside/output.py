"""Captures what a cell prints: at the level of Python, from every thread, bounded while it is printed."""

import codecs
import io
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

WHOLE_CHARS = 10_000_000  # of one cell, kept whole for ``history``; of a longer output, head and tail
_CHUNK = 1 << 16


class Clip(NamedTuple):
    """Head and tail of a text, and the number of characters left out between them."""

    head: str
    tail: str
    omitted: int

    def joined(self) -> str:
        """One text, which says how many characters are left out."""
        if not self.omitted:
            return self.head + self.tail
        return f"{self.head}\n[... {self.omitted} characters left out ...]\n{self.tail}"


def clip(text: Clip, limit: int) -> Clip:
    """``text`` cut to ``limit`` characters; a text that fits is all head."""
    whole = text.head + text.tail
    if not text.omitted and len(whole) <= limit:
        return Clip(whole, "", 0)
    head = text.head if text.omitted else whole
    tail = text.tail if text.omitted else whole
    head = head[: limit - limit // 2]
    tail = tail[-(limit // 2) :]
    return Clip(head, tail, text.omitted + len(whole) - len(head) - len(tail))


class Recorder:
    """Keeps the first and the last characters written to it; safe for many threads."""

    def __init__(self, limit: int = WHOLE_CHARS) -> None:
        self._lock = threading.Lock()
        self._half = limit // 2
        self._reset()

    def _reset(self) -> None:
        self._head = io.StringIO()
        self._room = self._half
        self._tail: deque[str] = deque()
        self._tail_chars = 0
        self._last = io.StringIO()  # small writes are gathered here before they become a chunk of the tail
        self._last_chars = 0
        self._dropped = 0

    def write(self, text: str) -> None:
        """Record ``text``; characters between head and tail are counted and dropped."""
        with self._lock:
            if self._room:
                first = text[: self._room]
                self._head.write(first)
                self._room -= len(first)
                if len(first) == len(text):
                    return
                text = text[len(first) :]
            if len(text) > self._half:
                self._dropped += len(text) - self._half
                text = text[-self._half :]
            self._last.write(text)
            self._last_chars += len(text)
            if self._last_chars >= _CHUNK:
                self._roll()

    def take(self) -> Clip:
        """What was written since the last call, with NULs replaced."""
        with self._lock:
            self._roll()
            tail = "".join(self._tail)
            end = tail[-self._half :]
            text = Clip(self._head.getvalue(), end, self._dropped + len(tail) - len(end))
            self._reset()
        return Clip(text.head.replace("\0", "\ufffd"), text.tail.replace("\0", "\ufffd"), text.omitted)

    def _roll(self) -> None:
        self._tail.append(self._last.getvalue())
        self._tail_chars += self._last_chars
        self._last = io.StringIO()
        self._last_chars = 0
        while self._tail_chars - len(self._tail[0]) >= self._half:
            length = len(self._tail.popleft())
            self._tail_chars -= length
            self._dropped += length


class Bytes(io.RawIOBase):
    """The ``buffer`` of a ``Stream``: it decodes bytes to text, invalid ones to U+FFFD."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any) -> int:
        """Record the bytes; an incomplete character waits for its remaining bytes."""
        self._recorder.write(self._decoder.decode(bytes(data)))
        return memoryview(data).nbytes

    def finish(self) -> None:
        """Record an incomplete character that is left, as invalid."""
        self._recorder.write(self._decoder.decode(b"", final=True))

    def close(self) -> None:
        """Do nothing: model-written code must not close the REPL's own output."""


class Stream(io.TextIOBase):
    """Replaces ``sys.stdout`` and ``sys.stderr``; both write into one recorder, in order."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self.name = name
        self.buffer = Bytes(recorder)

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, text: str) -> int:
        """Record the text."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._recorder.write(text)
        return len(text)

    def writelines(self, lines: Iterable[Any]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def reconfigure(self, **options: object) -> None:
        """Do nothing: there is nothing to configure."""

    def close(self) -> None:
        """Do nothing: model-written code must not close the REPL's own output."""
