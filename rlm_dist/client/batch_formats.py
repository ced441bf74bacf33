"""What a batch file is by its first bytes: JSON lines, plain or in gzip, are read; other formats are refused.

A refusal has the command that converts the file. Invariant: gzip is decoded as a stream, piece by piece.
"""

import codecs
import csv
import re
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line

_PIECE_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's number for gzip with its header
_PACKED = {
    b"PK\x03\x04": "is a zip archive: unzip -p",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: zstd -dc",
    b"\xfd7zXZ": "is compressed with xz: xz -dc",
    b"BZh": "is compressed with bzip2: bzip2 -dc",
}
# The marks of UTF-32 begin with those of UTF-16. Without a mark, a line begins with "{" and zeros.
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"{\0": "UTF-16LE",
    b"\0{": "UTF-16BE",
}
_COLUMNS = {"id", "query"}
_FROM_CSV = (
    """python3 -c 'import csv, json, sys; csv.field_size_limit(2**31 - 1); [print(json.dumps("""
    """{k: v for k, v in row.items() if v})) for row in csv.DictReader("""
    """open(sys.argv[1], encoding="utf-8-sig", newline=""))]'"""
)


class BatchBytes(Protocol):
    """A file that can be read repeatedly; ``FileText`` is one."""

    name: str

    def pieces(self) -> Iterator[bytes]:
        """Its bytes."""


def json_lines(file: BatchBytes, path: str | Path) -> BatchBytes:
    """The file, decoded if it is gzip.

    Raises:
        InputError: it has another format; the message has a command with ``path`` that converts it.
    """
    if _head(file).startswith(_GZIP):
        file = _Unzipped(file)
    head = _head(file)
    problem = _problem(head)
    if problem:
        source = "FILE" if str(path) == "-" or "://" in str(path) else one_line(str(path))
        command = f"{problem} {shlex.quote(source)} > {shlex.quote(source + '.jsonl')}"
        raise InputError((f"{one_line(file.name)}: {command}",))
    return file


def _head(file: BatchBytes) -> bytes:
    return next(iter(file.pieces()), b"")


def _problem(head: bytes) -> str | None:
    """What is wrong with a file that begins so, and the beginning of a command; None if nothing is."""
    for start, words in _PACKED.items():
        if head.startswith(start):
            return words
    for start, name in _ENCODINGS.items():
        if head.startswith(start):
            return f"is {name}; UTF-8 is needed: iconv -f {name} -t UTF-8"
    text = head.lstrip()
    if text.startswith(b"["):
        return "is a JSON array; one job a line: jq -c '.[]'"
    if re.match(rb"\{[ \t\r]*\n", text):
        return "is JSON over several lines; one job a line: jq -c ."
    first = text.partition(b"\n")[0].decode(errors="replace")
    if not first.startswith("{") and set(next(csv.reader([first]), ())) >= _COLUMNS:
        return f"is CSV; one job a line: {_FROM_CSV}"
    return None


class _Unzipped:
    """The content of a gzip file, which may have several members; a byte order mark is skipped."""

    def __init__(self, file: BatchBytes) -> None:
        self._file = file
        self.name = file.name

    def pieces(self) -> Iterator[bytes]:
        """The decoded bytes, in pieces of up to 1 MiB.

        Raises:
            InputError: it is cut off or broken.
        """
        try:
            yield from _without_mark(self._decoded())
        except zlib.error:
            raise InputError((f"{one_line(self.name)}: is gzip that is cut off or broken",)) from None

    def _decoded(self) -> Iterator[bytes]:
        decoder = zlib.decompressobj(_GZIP_WINDOW)
        for packed in self._file.pieces():
            while packed:
                if decoder.eof:
                    packed = packed.lstrip(b"\0")  # members may be padded
                    if not packed:
                        break
                    decoder = zlib.decompressobj(_GZIP_WINDOW)
                piece = decoder.decompress(packed, _PIECE_BYTES)
                packed = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
                if piece:
                    yield piece
        if not decoder.eof:
            raise zlib.error


def _without_mark(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield next(pieces, b"").removeprefix(codecs.BOM_UTF8)
    yield from pieces
