"""The contexts that a REPL hands to its children: received piece by piece, and stored when they are complete.

All pieces are hostile until they are stored. At most one context is incomplete at a time. It is in a file
without a name, which is gone with this process, and never in memory as a whole.
"""

import binascii
import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from rlm_dist.errors import InputError, SandboxError
from rlm_dist.sandbox.inside.frames import MAX_UPLOADS
from rlm_dist.sandbox.messages import ChildrenAsked, UploadPiece
from rlm_dist.schema import Answer, ContextRef


class Children(Protocol):
    """Serves ``rlm_query`` of a job that has child jobs.

    ``own`` is the job's context. One that its code makes may have ``max_context_bytes``, and is in a file in
    ``folder`` until it is complete.
    """

    own: ContextRef
    max_context_bytes: int
    folder: Path

    def store(self, file: BinaryIO, sha256: str, size_bytes: int) -> ContextRef:
        """Store an encoded context of this hash; raises InputError if it is not one."""

    def ask(
        self, prompts: Sequence[str], contexts: Sequence[ContextRef | None], model: str | None
    ) -> list[Answer]:
        """Answer each prompt by a child job over its context; as ``Query``, called from several threads."""


class Uploads:
    """The contexts that one REPL process has sent; used by one thread."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._stored: dict[int, ContextRef] = {}
        self._last_id = 0
        self._file: BinaryIO | None = None  # of the context that is incomplete
        self._size = 0
        self._digest = hashlib.sha256()

    def take(self, piece: UploadPiece) -> None:
        """Add a piece; the last one of a context stores it.

        Raises:
            SandboxError: the piece, or the context, is not what an honest REPL sends.
            RLMError: the context cannot be stored.
        """
        if self._file is None or piece.id != self._last_id:
            self._begin(piece.id)
        assert self._file is not None  # _begin opens it
        try:
            data = binascii.a2b_base64(piece.data, strict_mode=True)
        except binascii.Error:
            raise SandboxError("a piece of a context that is not base64") from None
        self._size += len(data)
        if self._size > self._children.max_context_bytes:
            raise SandboxError("a context that is too large")
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise SandboxError(f"a context for a child cannot be kept: {error.strerror}") from None
        if piece.last:
            self._store()

    def _begin(self, upload_id: int) -> None:
        """Begin a context; one that is incomplete is given up, as its code was interrupted."""
        if upload_id <= self._last_id:
            raise SandboxError("a piece of a context that is complete")
        if len(self._stored) >= MAX_UPLOADS:
            raise SandboxError("too many contexts")
        self.close()
        self._last_id, self._size, self._digest = upload_id, 0, hashlib.sha256()
        try:
            self._file = tempfile.TemporaryFile(dir=self._children.folder)  # noqa: SIM115  # ``close`` closes it
        except OSError as error:
            raise SandboxError(f"a context for a child cannot be kept: {error.strerror}") from None

    def _store(self) -> None:
        assert self._file is not None
        try:
            self._stored[self._last_id] = self._children.store(
                self._file, self._digest.hexdigest(), self._size
            )
        except InputError:
            raise SandboxError("a context in a wrong form") from None
        finally:
            self.close()

    def contexts(self, asked: ChildrenAsked) -> list[ContextRef | None]:
        """The contexts of a frame; raises SandboxError if one was not sent, or is forgotten."""
        return [self._context(name) for name in asked.contexts]

    def _context(self, name: int | str | None) -> ContextRef | None:
        if name is None:
            return None
        if isinstance(name, str):
            return self._children.own
        if name not in self._stored:
            raise SandboxError("a context that was not sent")
        return self._stored[name]

    def forget(self, ids: Iterable[int]) -> None:
        """Drop these contexts, also if one is incomplete."""
        for upload_id in ids:
            self._stored.pop(upload_id, None)
            if upload_id == self._last_id:
                self.close()

    def close(self) -> None:
        """Give up the context that is incomplete."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
