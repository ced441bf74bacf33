"""Streams of open pages: one look for all streams of a key, a bound on them, and no look after the last."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rlm_dist.operations.flower import live
from rlm_dist.operations.flower.live import MOST_STREAMS, LiveHub, Version


class Shown:
    """What a key shows, and how often it was looked at."""

    def __init__(self) -> None:
        self.version = Version("1")
        self.looks = 0

    async def look(self) -> Version:
        """The version now."""
        self.looks += 1
        return self.version


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_LOOK_S", 0)


def run(test: Callable[[LiveHub, Shown], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(LiveHub(), Shown()), 30)

    asyncio.run(main())


def test_all_streams_of_a_key_hear_of_a_change_once() -> None:
    async def test(hub: LiveHub, shown: Shown) -> None:
        streams = [stream for _ in range(3) if (stream := hub.join("jobs/a", shown.look))]
        for text in ("1", "2"):
            shown.version = Version(text)
            for stream in streams:
                await stream.changed.wait()
                assert stream.version == shown.version
                stream.changed.clear()
        before = shown.looks
        while shown.looks < before + 3:
            await asyncio.sleep(0)
        assert not any(stream.changed.is_set() for stream in streams)

    run(test)


def test_nobody_looks_after_the_last_stream_has_closed() -> None:
    async def test(hub: LiveHub, shown: Shown) -> None:
        stream = hub.join("jobs/a", shown.look)
        assert stream is not None
        await stream.changed.wait()
        hub.leave(stream)
        hub.leave(stream)
        assert hub.open_streams == 0
        loop = hub._loop
        assert loop is not None
        await loop

    run(test)


def test_no_more_streams_are_opened_than_the_bound() -> None:
    async def test(hub: LiveHub, shown: Shown) -> None:
        streams = [hub.join(f"jobs/{n}", shown.look) for n in range(MOST_STREAMS)]
        assert all(streams)
        assert hub.join("jobs/more", shown.look) is None
        assert streams[0] is not None
        hub.leave(streams[0])
        assert hub.join("jobs/more", shown.look) is not None

    run(test)


def test_a_look_that_fails_ends_no_stream() -> None:
    async def test(hub: LiveHub, shown: Shown) -> None:
        async def broken() -> Version:
            raise OSError("away")

        stream, other = hub.join("jobs/a", broken), hub.join("jobs/b", shown.look)
        assert stream is not None
        assert other is not None
        await stream.changed.wait()
        await other.changed.wait()
        assert (stream.version, other.version) == (Version("away"), Version("1"))

    run(test)
