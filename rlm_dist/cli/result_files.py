"""Files of results: whole or not at all, and no other file is overwritten by mistake."""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import typer

from rlm_dist.cli.output import json_line
from rlm_dist.errors import InputError

Write = Callable[[object], None]


@contextmanager
def result_file(path: Path, *, grows: bool, force: bool, private: bool = False) -> Iterator[Write]:
    """Yield a function that writes a document as a line of the file.

    The file appears when the context ends without an error; an earlier one stays until then. If it ``grows``
    it is written in place, line by line, for programs that read it meanwhile. At a terminal, people are asked
    before a file is overwritten, unless ``force``. Only its owner can read a ``private`` file, which does not
    grow.

    Raises:
        InputError: if it cannot be written, as on a full disk.
    """
    is_file = _is_file(path)
    if is_file and not force and sys.stdin.isatty():
        typer.confirm(f"{path} exists. Overwrite it?", abort=True, err=True)
    try:
        if grows or is_file is False:
            with path.open("wb") as file:
                yield lambda document: _write(file, document)
        else:
            with _whole(path, private=private) as write:
                yield write
    except OSError as error:
        raise InputError((f"{path}: cannot be written ({error.strerror})",)) from None


def _is_file(path: Path) -> bool | None:
    """Whether it is a regular file; None if it does not exist."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return None


@contextmanager
def _whole(path: Path, *, private: bool) -> Iterator[Write]:
    target = path.resolve()  # through a link, so that the link stays
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    draft = Path(name)
    try:
        with open(descriptor, "wb") as file:
            yield lambda document: _line(file, document)
            file.flush()
            os.fsync(descriptor)
        if not private:  # as it was made, it is
            draft.chmod(_mode(target))
        draft.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            draft.unlink()
        raise


def _mode(target: Path) -> int:
    """The mode of the file that is replaced, or that of a new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _write(file: BinaryIO, document: object) -> None:
    _line(file, document)
    file.flush()


def _line(file: BinaryIO, document: object) -> None:
    file.write(json_line(document) + b"\n")
