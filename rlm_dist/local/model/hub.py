"""Fetches weights from where their makers publish them; the caller checks their hash."""

import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from rlm_dist.errors import Unreachable

_ANSWER_S = 15
_PIECE_BYTES = 1 << 20


def fetch_from_hub(address: str, draft: Path, progress: Callable[[int], None]) -> None:
    """Make ``draft`` the file at an address; ``progress`` is called with the number of bytes in it.

    Raises:
        Unreachable: if the hub does not answer within 15 s, refuses, or breaks off.
    """
    done = 0
    try:
        with urllib.request.urlopen(address, timeout=_ANSWER_S) as response, draft.open("wb") as target:
            expected = int(response.headers.get("Content-Length") or 0)
            while piece := response.read(_PIECE_BYTES):
                target.write(piece)
                done += len(piece)
                progress(done)
        if done < expected:
            raise HTTPException(f"it broke off after {done:,} of {expected:,} bytes")
    except (OSError, HTTPException) as error:
        draft.unlink(missing_ok=True)
        raise Unreachable("the hub", address, str(getattr(error, "reason", None) or error)) from None
