"""Reads the body of a response up to a bound, whatever the endpoint sends.

Bytes are counted as they arrive and again as they are decompressed, since a megabyte of gzip may hold
gigabytes. Few long bodies of an endpoint are read at the same time: the others wait on the wire.

No compression is asked for. What some servers compress all the same is read if zlib can do it, as that stops
at a given length; any other compression is refused.
"""

import asyncio
import zlib
from collections.abc import Callable

import httpx2

from rlm_dist.errors import CallError, FailureKind

MIB = 2**20
MAX_BYTES = 64 * MIB
MAX_ERROR_BYTES = MIB
MAX_LONG_BODIES = 4
_LONG_BYTES = MIB
ACCEPTED_ENCODING = "identity"
_ZLIB = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32

Feed = Callable[[bytes, int], bytes]  # the next bytes of the body, and how many may come out


async def read_body(response: httpx2.Response, turns: asyncio.Semaphore) -> str:
    """The text of a response; a long body is read only in one of the ``turns``.

    Of an error's body only the beginning, if it is long or cannot be read.

    Raises:
        CallError: the body is larger than ``MAX_BYTES``, or compressed in a way that is not read. The call
            was probably paid for, and is not to be made again.
        httpx2.DecodingError: the compressed body is damaged.
    """
    is_error = not response.is_success
    encoding = response.headers.get("content-encoding", "").strip().lower()
    feed = None
    if encoding not in ("", "identity"):
        feed = _decompressor() if encoding in _ZLIB else None
        if feed is None:
            await response.aclose()
            if is_error:
                return ""
            raise too_large(f"it is compressed with {encoding[:40]!r}, which was not asked for")
    parts, is_whole = await _read(response, feed, MAX_ERROR_BYTES if is_error else MAX_BYTES, turns)
    if not (is_whole or is_error):
        raise too_large(f"it is larger than {MAX_BYTES // MIB} MiB")
    return b"".join(parts).decode("utf-8", "replace")  # JSON is UTF-8, whatever the headers say


def too_large(why: str) -> CallError:
    """The failure of a call whose reply is not read."""
    return CallError(FailureKind.NO_ANSWER, f"the endpoint's reply is not read: {why}")


async def _read(
    response: httpx2.Response, feed: Feed | None, most: int, turns: asyncio.Semaphore
) -> tuple[list[bytes], bool]:
    """At most ``most`` bytes of the body in parts, and whether that is all of it; closes the response."""
    parts: list[bytes] = []
    arrived = kept = 0
    has_turn = False
    chunks = response.aiter_raw()
    try:
        async for chunk in chunks:
            arrived += len(chunk)
            part = chunk if feed is None else feed(chunk, most - kept + 1)
            kept += len(part)
            parts.append(part)
            if kept > most or arrived > most:
                parts[-1] = part[: len(part) - max(kept - most, 0)]
                return parts, False
            if kept > _LONG_BYTES and not has_turn:
                has_turn = await turns.acquire()
    finally:
        if has_turn:
            turns.release()
        await chunks.aclose()
        await response.aclose()
    return parts, True


def _decompressor() -> Feed:
    """Decompresses gzip or zlib; raises DecodingError if the bytes are neither."""
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)

    def feed(chunk: bytes, most: int) -> bytes:
        try:
            return b"" if stream.eof else stream.decompress(chunk, most)
        except zlib.error:
            raise httpx2.DecodingError("its compressed body is damaged") from None

    return feed
