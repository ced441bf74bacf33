"""Writes frames to a REPL process; nobody waits for one that reads nothing.

A frame for which the socket has room is written at once, by whoever sends it: handing each to a thread and
back costs more than the write. What does not fit is written by a thread, which is started then.
"""

import contextlib
import queue
import socket
import threading
import time


class FrameWriter:
    """The one writer of a session's socket; ``changed`` is the session's lock, notified when bytes are read.

    ``unread_bytes`` wait to be taken by the socket, none of them since ``unread_since`` (monotonic clock).
    Read both with the lock held.
    """

    def __init__(self, channel: socket.socket, changed: threading.Condition) -> None:
        self.unread_bytes = 0
        self.unread_since = 0.0
        self._channel = channel
        self._changed = changed
        self._frames: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_over = False

    def send(self, frame: bytes) -> None:
        """Write a frame after those before it; never waits. If the process is gone, nothing happens.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._changed:
            if self._is_over:
                return
            rest = memoryview(frame)
            if not self.unread_bytes:
                rest = rest[self._written_at_once(rest) :]
                if not rest:
                    return
                self.unread_since = time.monotonic()
            self.unread_bytes += len(rest)
            self._frames.put(rest)
            if self._thread is None:
                thread = threading.Thread(target=self._write, name="repl-writer", daemon=True)
                thread.start()
                self._thread = thread

    def end(self) -> None:
        """Write nothing more; what waits is written if the process still reads."""
        with self._changed:
            self._is_over = True
        self._frames.put(None)

    def join(self) -> None:
        """Wait until nothing is written any more; ``end`` comes before it."""
        if self._thread is not None:
            self._thread.join()

    def _written_at_once(self, data: memoryview) -> int:
        """How many bytes the socket took without waiting; it takes all if the process is gone."""
        try:
            return self._channel.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # the reader notices

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the reader notices
            while (data := self._frames.get()) is not None:
                self._channel.sendall(data)
                with self._changed:
                    self.unread_bytes -= len(data)
                    self.unread_since = time.monotonic()
                    self._changed.notify_all()
