"""Whole batch files: checked line by line, then read as jobs."""

import hashlib
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from rlm_dist.client.batch_file import MAX_LINE_BYTES, BatchFile, BatchList
from rlm_dist.errors import InputError

GOOD = b'{"id": "q1", "query": "How many?", "context": "text"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "batch.jsonl"


def line(number: int, **fields: Any) -> bytes:
    return json.dumps({"id": f"q{number}", "query": "?", "context": f"text {number}"} | fields).encode()


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        BatchFile(path)
    return caught.value.problems


def test_blank_lines_windows_ends_a_mark_and_no_last_end_are_passed_over(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + line(1) + b"\r\n\r\n  \n" + line(2))
    batch = BatchFile(path)
    assert [item.custom_id for item in batch.items()] == ["q1", "q2"]
    assert batch.total == 2


def test_every_bad_line_is_listed_with_its_number(path: Path) -> None:
    path.write_bytes(
        b"\n".join(
            [
                GOOD,
                b"{not json}",
                line(3, context=""),
                b"",
                b'{"id": "\xff"}',
                GOOD,
                b'{"id": "n", "query": "q", "context": [NaN]}',
                b'{"id": "i", "query": "q", "context": [1e999]}',
                b'{"id": "h", "query": "q", "context": ' + b"9" * 5000 + b"}",
                b'{"id": "d", "query": "q", "context": ' + b"[" * 200_000 + b"}",
                line(11, colour="red", query=5),
            ]
        )
    )
    problems = problems_of(path)
    assert [problem.split(":")[0] for problem in problems] == [
        f"line {number}" for number in (2, 3, 5, 6, 7, 8, 9, 10, 11)
    ]
    assert problems[0].startswith("line 2: is not JSON: Expecting property name")
    assert problems[1] == "line 3: context: is empty"
    assert problems[2] == "line 5: is not UTF-8, first bad byte at offset 8 of the line"
    assert problems[3] == "line 6: id: 'q1' is already used in line 1"
    assert problems[4] == "line 7: is not JSON: NaN is not a JSON value"
    assert problems[5].startswith("line 8: context: is not a JSON value")
    assert "digits" in problems[6]
    assert problems[7] == "line 10: is nested too deeply"
    assert problems[8] == "line 11: query: input should be a valid string; colour: is not known"


def test_an_id_that_is_used_twice_is_named_as_the_line_names_it(path: Path) -> None:
    path.write_bytes(b"\n".join([line(1), chat(1), chat(1)]))
    assert problems_of(path) == (
        "line 2: custom_id: 'q1' is already used in line 1",
        "line 3: custom_id: 'q1' is already used in line 1",
    )


def test_skip_invalid_keeps_the_good_lines(path: Path) -> None:
    path.write_bytes(b"\n".join([line(1), b"{", line(1, query="again"), line(2)]))
    batch = BatchFile(path, skip_invalid=True)
    assert [(item.custom_id, item.query) for item in batch.items()] == [("q1", "?"), ("q2", "?")]
    assert (batch.total, batch.bad_lines, len(batch.problems)) == (2, 2, 2)


def test_a_list_of_problems_is_bounded(path: Path) -> None:
    path.write_bytes(b"{}\n" * 250)
    problems = problems_of(path)
    assert len(problems) == 101
    assert problems[-1] == "… and 150 more bad lines"


@pytest.mark.parametrize("skip_invalid", [False, True])
@pytest.mark.parametrize("content", [b"", b"\n\n", b"{}\n"])
def test_a_file_without_a_job_is_refused(path: Path, content: bytes, skip_invalid: bool) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError):
        BatchFile(path, skip_invalid=skip_invalid)


def test_a_missing_file_is_named(path: Path) -> None:
    assert problems_of(path) == (f"{path}: no such file",)


def test_context_files_are_found_beside_the_batch_and_checked(path: Path) -> None:
    (path.parent / "docs").mkdir()
    (path.parent / "docs" / "a.txt").write_text("one", encoding="utf-8")
    (path.parent / "bad.txt").write_bytes(b"\xff")
    lines = [{"id": name, "query": "?", "context_file": name} for name in ("docs/a.txt", "docs")]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    file, folder = BatchFile(path).items()
    assert (file.encode().ref.info.kind, folder.encode().ref.info.kind) == ("str", "list")
    lines += [
        {"id": name, "query": "?", "context_file": name} for name in ("none.txt", "bad.txt", "bad.txt/")
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    problems = problems_of(path)
    assert problems[0] == f"line 3: context_file: {path.parent}/none.txt: no such file"
    assert "bad.txt: is not UTF-8, first bad byte at offset 0" in problems[1]


def test_the_digest_is_that_of_the_bytes(path: Path) -> None:
    path.write_bytes(GOOD + b"\n")
    assert BatchFile(path).digest == hashlib.sha256(GOOD + b"\n").hexdigest()


def test_a_batch_can_come_from_standard_input() -> None:
    batch = BatchFile("-", stdin=io.BytesIO(GOOD))
    assert [item.custom_id for item in batch.items()] == ["q1"]


def test_a_file_that_changes_after_the_check_is_named(path: Path) -> None:
    path.write_bytes(GOOD)
    batch = BatchFile(path)
    path.write_bytes(GOOD.replace(b"text", b"TEXT"))
    os.utime(path, (1, 1))
    with pytest.raises(InputError, match="changed while it was read"):
        list(batch.items())


def test_openai_lines_tell_which_fields_had_no_effect(path: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
    fields = {"temperature": 0.5, "max_tokens": 9, "seed": None}
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body | fields}
    path.write_text(json.dumps(request), encoding="utf-8")
    batch = BatchFile(path)
    assert batch.ignored == {"max_tokens"}
    assert [item.form for item in batch.items()] == ["openai"]


def test_a_list_has_the_same_digest_in_every_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By it a batch id attaches, so it holds what was handed in, not how this release reads it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("text")
    file = {"id": "q2", "query": "?", "context_file": str(tmp_path / "text.txt"), "max_usd": Decimal("0.5")}
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}], "temperature": 0.5}
    lines: list[dict[str, Any]] = [
        {"id": "q1", "query": "?", "context": ["a", "b"]},
        file,
        {"custom_id": "q3", "body": body},
    ]
    digest = BatchList(lines).digest
    assert digest == "259c155d4aa275b24e546f8a210151d9f878c7f6e24a4f2b45a7df649136b8f3"
    assert BatchList([dict(reversed(line.items())) for line in lines]).digest == digest
    (tmp_path / "text.txt").write_text("TEXT")
    assert BatchList(lines).digest != digest


@pytest.mark.parametrize("name", ["query", "context", "model"])
def test_another_list_has_another_digest(name: str) -> None:
    item = {"id": "q1", "query": "a", "context": "b", "model": "c"}
    assert BatchList([item]).digest != BatchList([item | {name: "d"}]).digest


def native(number: int) -> bytes:
    return line(number, context="x" * 16_000)


def chat(number: int) -> bytes:
    messages = [{"role": "user", "content": "x" * 8000} for _ in range(2)]
    return json.dumps({"custom_id": f"q{number}", "body": {"model": "m", "messages": messages}}).encode()


@pytest.mark.parametrize("made", [native, chat])
def test_a_large_file_is_never_in_memory(path: Path, made: Callable[[int], bytes]) -> None:
    """A file of 32 MiB in 2000 lines takes little more memory than its ids and one line."""
    with path.open("wb") as file:
        for number in range(2000):
            file.write(made(number) + b"\n")
    tracemalloc.start()
    try:
        assert sum(1 for _ in BatchFile(path).items()) == 2000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


TOO_LONG = (
    "line 2: has more than 268,435,456 bytes; put its context into a file of its own, named by context_file"
)


def test_a_line_without_an_end_is_refused_with_bounded_memory(path: Path) -> None:
    """A sparse file of 1 TiB, whose second line has no end, is reported as soon as the line is too long."""
    with path.open("wb") as file:
        file.write(GOOD + b"\n")
        file.truncate(1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            BatchFile(path, skip_invalid=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.problems == (f"{path}: {TOO_LONG}",)
    assert peak < MAX_LINE_BYTES + 8 * 1024 * 1024


def test_a_stream_without_an_end_is_refused_before_it_fills_the_disk() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return GOOD + b"\n" if self.given == size else bytes(size)

    with pytest.raises(InputError) as caught:
        BatchFile("-", stdin=cast(BinaryIO, Endless()))
    assert caught.value.problems == (f"standard input: {TOO_LONG}",)
    with pytest.raises(InputError, match="/dev/zero: line 1: has more than"):
        BatchFile("/dev/zero")


def test_a_long_line_that_is_allowed_is_read(path: Path) -> None:
    text = "x" * (3 << 20)
    path.write_bytes(line(1, context=text) + b"\n" + GOOD.replace(b"q1", b"q2"))
    assert [item.value for item in BatchFile(path).items()] == [text, "text"]
