"""Folders of ours: nobody else may read or write in them."""

from pathlib import Path

OWN = 0o700


def own_folder(path: Path) -> Path:
    """Create the folder if it is missing, close it to all other users, and return it.

    Raises:
        OSError: it cannot be created, or belongs to somebody else.
    """
    path.mkdir(mode=OWN, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(OWN)
    return path
