"""Batch files that are no JSON lines: gzip is read, the others are refused with what converts them."""

import gzip
import json
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from rlm_dist.client.batch_file import MAX_LINE_BYTES, BatchFile
from rlm_dist.errors import InputError

ROWS = [{"id": f"q{n}", "query": "What, é?", "context": f"text {n}"} for n in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        BatchFile(path, skip_invalid=True)
    (problem,) = caught.value.problems
    return problem


def test_a_file_in_gzip_is_the_same_batch_as_the_plain_one(tmp_path: Path) -> None:
    plain, packed = tmp_path / "b.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_bytes(LINES)
    middle = LINES.index(b"q1")
    packed.write_bytes(gzip.compress(LINES[:middle]) + gzip.compress(LINES[middle:]) + bytes(512))
    read = BatchFile(packed)
    assert (read.total, read.digest) == (3, BatchFile(plain).digest)
    assert [item.value for item in read.items()] == ["text 0", "text 1", "text 2"]
    with packed.open("rb") as stdin:
        assert BatchFile("-", stdin=stdin).digest == read.digest
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + LINES))
    assert BatchFile(packed).digest == read.digest


def test_a_line_that_gzip_makes_too_long_is_refused_with_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(LINES)
        for _ in range(300):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        assert f"line 4: has more than {MAX_LINE_BYTES:,} bytes" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_LINE_BYTES + 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [40, -4, -9])
def test_a_broken_file_in_gzip_is_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(gzip.compress(LINES)[:keep])
    assert refusal(path) == f"{path}: is gzip that is cut off or broken"
    path.write_bytes(gzip.compress(LINES) + b"more")
    assert refusal(path) == f"{path}: is gzip that is cut off or broken"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps(ROWS).encode(), "is a JSON array; one job a line: jq -c '.[]' {} > {}.jsonl"),
        (b" \n\n[\n" + LINES, "is a JSON array; one job a line: jq -c '.[]' {} > {}.jsonl"),
        (b'{\n  "id": "q1"\n}\n', "is JSON over several lines; one job a line: jq -c . {} > {}.jsonl"),
        (
            LINES.decode().encode("utf-16"),
            "is UTF-16; UTF-8 is needed: iconv -f UTF-16 -t UTF-8 {} > {}.jsonl",
        ),
        (
            LINES.decode().encode("utf-16-be"),
            "is UTF-16BE; UTF-8 is needed: iconv -f UTF-16BE -t UTF-8 {} > {}.jsonl",
        ),
        (
            LINES.decode().encode("utf-16-le"),
            "is UTF-16LE; UTF-8 is needed: iconv -f UTF-16LE -t UTF-8 {} > {}.jsonl",
        ),
        (
            LINES.decode().encode("utf-32"),
            "is UTF-32; UTF-8 is needed: iconv -f UTF-32 -t UTF-8 {} > {}.jsonl",
        ),
        (b"PK\x03\x04rest", "is a zip archive: unzip -p {} > {}.jsonl"),
        (b"\x28\xb5\x2f\xfdrest", "is compressed with zstd: zstd -dc {} > {}.jsonl"),
        (b"\xfd7zXZ\0rest", "is compressed with xz: xz -dc {} > {}.jsonl"),
        (b"BZh91AY&SYrest", "is compressed with bzip2: bzip2 -dc {} > {}.jsonl"),
    ],
    ids=[str(number) for number in range(11)],
)
def test_another_format_is_refused_with_what_converts_it(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a batch"
    path.write_bytes(content)
    named = words.replace("{}.jsonl", f"'{path}.jsonl'").replace("{}", f"'{path}'")
    assert refusal(path) == f"{path}: {named}"


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS, indent=1).encode(),
        "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
        LINES.decode().encode("utf-16"),
        LINES.decode().encode("utf-16-be"),
        LINES.decode().encode("utf-32"),
    ],
    ids=["array", "object", "utf16", "utf16be", "utf32"],
)
def test_the_command_makes_the_batch(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a batch"
    path.write_bytes(content)
    subprocess.run(refusal(path).rpartition(": ")[2], shell=True, check=True)  # noqa: S602
    assert [item.value for item in BatchFile(f"{path}.jsonl").items()] == ["text 0", "text 1", "text 2"]


def test_the_command_for_csv_makes_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "a batch.csv"
    long = "x" * 200_000
    rows = [
        "id,query,context,context_file",
        'q1,"What, ""é""?","two\nlines",',
        "2,Who?,,b.txt",
        f"q3,?,{long},",
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    (tmp_path / "b.txt").write_text("text")
    problem = refusal(path)
    start, command = problem.split(": python3 ")
    assert start == f"{path}: is CSV; one job a line"
    subprocess.run(f"python3 {command}", shell=True, check=True, cwd=tmp_path)  # noqa: S602
    items = list(BatchFile(f"{path}.jsonl").items())
    assert [(item.custom_id, item.query) for item in items] == [
        ("q1", 'What, "é"?'),
        ("2", "Who?"),
        ("q3", "?"),
    ]
    assert [item.value for item in items] == ["two\nlines", None, long]


def test_a_file_that_has_no_path_is_called_file_in_the_command(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_text(json.dumps(ROWS))
    with path.open("rb") as stdin, pytest.raises(InputError) as caught:
        BatchFile("-", stdin=stdin)
    assert caught.value.problems == (
        "standard input: is a JSON array; one job a line: jq -c '.[]' FILE > FILE.jsonl",
    )
