"""Fetches weights from where their makers publish them; the caller checks their hash."""

import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from rlm_dist.errors import Unreachable

_ANSWER_S = 15
_PIECE_BYTES = 1 << 20


def fetch_from_hub(address: str, draft: Path, size_bytes: int, progress: Callable[[int], None]) -> None:
    """Make ``draft`` the file of this size at an address; go on with what an earlier fetch has left.

    ``progress`` is called with the number of bytes in it. An answer that breaks off is asked for again from
    there, as long as each brings something.

    Raises:
        Unreachable: if the hub does not answer within 15 s, refuses, breaks off, or has another size. The
            draft is removed.
    """
    done = draft.stat().st_size if draft.exists() else 0
    try:
        while done != size_bytes:
            before, why = done, ""
            try:
                _fetch_rest(address, draft, done, size_bytes, progress)
            except (OSError, HTTPException) as error:
                why = str(getattr(error, "reason", None) or error)
            done = draft.stat().st_size if draft.exists() else 0
            if not before < done <= size_bytes:
                size = f"more than {size_bytes:,}" if done > size_bytes else f"{done:,} of {size_bytes:,}"
                raise Unreachable("the hub", address, why or f"it has {size} bytes")
    except Unreachable:
        draft.unlink(missing_ok=True)
        raise


def _fetch_rest(
    address: str, draft: Path, done: int, size_bytes: int, progress: Callable[[int], None]
) -> None:
    """Add what comes after ``done`` bytes, up to one byte more than there should be."""
    request = urllib.request.Request(address, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as response:
        goes_on = response.status == HTTPStatus.PARTIAL_CONTENT
        with draft.open("ab" if goes_on else "wb") as target:
            while piece := response.read(min(_PIECE_BYTES, size_bytes + 1 - target.tell())):
                target.write(piece)
                progress(target.tell())
