"""Folders of ours: nobody else may read or write in them."""

import errno
import os
from pathlib import Path

OWN = 0o700


def own_folder(path: Path) -> Path:
    """Create the folder if it is missing, close it to all other users, and return it.

    Raises:
        OSError: it cannot be created, is a file, or belongs to somebody else.
    """
    try:
        path.mkdir(mode=OWN, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    if path.stat().st_mode & 0o077:
        path.chmod(OWN)
    return path
