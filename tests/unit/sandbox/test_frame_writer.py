"""Frames reach a process that reads late, in order, and nobody waits for one that reads nothing."""

import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from rlm_dist.sandbox.frame_writer import FrameWriter
from rlm_dist.sandbox.inside.frames import pack, receive
from tests.support.waiting import wait_until

LONG = "x" * 1_000_000  # more than a socket takes


class Written(NamedTuple):
    """A writer, and the process's end of its socket."""

    writer: FrameWriter
    changed: threading.Condition
    theirs: socket.socket

    @property
    def unread(self) -> int:
        """The bytes that the socket has not taken."""
        with self.changed:
            return self.writer.unread_bytes

    def send(self, *texts: str) -> None:
        """Send a frame for each text."""
        for text in texts:
            self.writer.send(pack({"text": text}))

    def read(self, count: int) -> list[bytes | None]:
        """So many frames."""
        return [receive(self.theirs.recv) for _ in range(count)]


@pytest.fixture
def written() -> Iterator[Written]:
    ours, theirs = socket.socketpair()
    changed = threading.Condition()
    made = Written(FrameWriter(ours, changed), changed, theirs)
    with ours, theirs:
        yield made
        made.writer.end()
        ours.shutdown(socket.SHUT_RDWR)
        made.writer.join()


def frames(*texts: str) -> list[bytes]:
    """What is read of such frames."""
    return [pack({"text": text})[4:] for text in texts]


@pytest.fixture
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("_no_threads")
def test_short_frames_need_no_thread(written: Written) -> None:
    written.send("a", "b")
    assert written.unread == 0
    assert written.read(2) == frames("a", "b")


def test_what_does_not_fit_is_written_later_and_in_order(written: Written) -> None:
    """The first frame is cut in the middle; the second one would have fitted, but for the first."""
    written.send(LONG, "short")
    assert 0 < written.unread < len(LONG)
    assert written.read(2) == frames(LONG, "short")
    wait_until(lambda: written.unread == 0)
    written.send("at once")
    assert written.read(1) == frames("at once")


def test_who_waits_hears_of_what_is_read(written: Written) -> None:
    written.send(LONG)
    reader = threading.Thread(target=written.read, args=(1,))
    with written.changed:
        reader.start()
        assert written.changed.wait_for(lambda: written.writer.unread_bytes == 0, timeout=60)
    reader.join()


def test_a_process_that_is_gone_owes_nothing(written: Written) -> None:
    written.theirs.close()
    written.send("a", LONG, LONG)
    assert written.unread == 0


def test_nothing_is_written_after_the_end(written: Written) -> None:
    written.writer.end()
    written.send("a")
    written.theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        written.theirs.recv(1)


@pytest.mark.usefixtures("_no_threads")
def test_where_a_thread_is_needed_and_cannot_be_started_the_sender_hears_of_it(written: Written) -> None:
    with pytest.raises(RuntimeError, match="can't start"):
        written.send(LONG)
