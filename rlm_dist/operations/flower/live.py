"""Streams by which open pages learn that they have changed.

A page names what it shows by a key. While streams are open, one loop looks at each key once a second,
whatever the number of its streams, and marks them if its version differs. The page then reads itself again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

_LOOK_S = 1.0
MOST_STREAMS = 100


class Version(NamedTuple):
    """What a key shows now, as a short text; ``final`` if it will never change again."""

    text: str
    final: bool = False


Look = Callable[[], Awaitable[Version]]


class PageStream:
    """One open page: ``changed`` is set when there is a version that it has not seen."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.changed = asyncio.Event()
        self.version: Version | None = None


class LiveHub:
    """All open streams, and the loop that looks for them; used from the event loop alone."""

    def __init__(self) -> None:
        self._streams: dict[str, set[PageStream]] = {}
        self._looks: dict[str, Look] = {}
        self._loop: asyncio.Task[None] | None = None

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return sum(map(len, self._streams.values()))

    def join(self, key: str, look: Look) -> PageStream | None:
        """Open a stream; None if too many are open. The look of the first stream of a key serves all."""
        if self.open_streams >= MOST_STREAMS:
            return None
        stream = PageStream(key)
        self._streams.setdefault(key, set()).add(stream)
        self._looks.setdefault(key, look)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.get_running_loop().create_task(self._run())
        return stream

    def leave(self, stream: PageStream) -> None:
        """Close a stream."""
        streams = self._streams.get(stream.key, set())
        streams.discard(stream)
        if not streams:
            self._streams.pop(stream.key, None)
            self._looks.pop(stream.key, None)

    async def _run(self) -> None:
        while self._streams:
            for key in list(self._streams):
                await self._mark(key)
            await asyncio.sleep(_LOOK_S)

    async def _mark(self, key: str) -> None:
        look = self._looks.get(key)
        if look is None:
            return
        try:
            version = await look()
        except Exception:  # noqa: BLE001  # Redis may be away; the page itself says so when it is read
            version = Version("away")
        for stream in self._streams.get(key, ()):
            if stream.version != version:
                stream.version = version
                stream.changed.set()
