"""Folders of ours, in and below ``RLM_HOME``: nobody else may read or write in them."""

from pathlib import Path

from rlm_dist.errors import InputError

OWN = 0o700


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
