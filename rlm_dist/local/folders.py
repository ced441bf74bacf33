"""Folders and files of ours, in and below ``RLM_HOME``: closed to everybody else, whatever the umask.

The command line keeps the user's umask, for the files that the user names.
"""

import os
from pathlib import Path
from typing import BinaryIO

from rlm_dist.errors import InputError

OWN = 0o700
OWN_FILE = 0o600


def own_folder(path: Path) -> Path:
    """Create the folder if it is missing, close it to all other users, and return it.

    Raises:
        InputError: it cannot be created, is a file, or belongs to somebody else.
    """
    try:
        path.mkdir(mode=OWN, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(OWN)
    except OSError as error:
        reason = (
            "it is a file" if isinstance(error, FileExistsError) else error.strerror or type(error).__name__
        )
        raise InputError((f"RLM_HOME: {path} cannot be used: {reason}",)) from None
    return path


def _create(name: str, flags: int) -> int:
    return os.open(name, flags, OWN_FILE)


def own_file(path: Path, mode: str) -> BinaryIO:
    """Open a binary file for writing (``wb``) or appending (``ab``), and close it to all other users.

    Raises:
        OSError: it cannot be opened, or belongs to somebody else.
    """
    file: BinaryIO = open(path, mode, opener=_create)  # type: ignore[assignment]  # noqa: SIM115  # for the caller
    if os.fstat(file.fileno()).st_mode & 0o077:
        os.fchmod(file.fileno(), OWN_FILE)
    return file
