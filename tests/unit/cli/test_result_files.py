"""Files of results are written whole, and nothing is overwritten by mistake."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from rlm_dist.cli.result_files import result_file
from rlm_dist.errors import InputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def write(path: Path, *documents: object, grows: bool = False, force: bool = False) -> None:
    with result_file(path, grows=grows, force=force) as line:
        for document in documents[0] if isinstance(documents[0], Iterator) else documents:
            line(document)


def test_the_file_has_a_line_for_each_document(path: Path) -> None:
    write(path, {"a": 1}, "ü")
    assert path.read_text() == '{"a": 1}\n"ü"\n'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("grows", [False, True])
def test_a_growing_file_is_read_meanwhile_and_another_stays_as_it_was(path: Path, grows: bool) -> None:
    path.write_text("old\n")
    with result_file(path, grows=grows, force=False) as line:
        line(1)
        assert path.read_text() == ("1\n" if grows else "old\n")
    assert path.read_text() == "1\n"


def test_an_error_leaves_the_earlier_file_and_nothing_else(path: Path) -> None:
    path.write_text("old\n")

    def documents() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, documents())
    assert path.read_text() == "old\n"
    assert list(path.parent.iterdir()) == [path]


def test_the_mode_is_what_people_expect(path: Path) -> None:
    umask = os.umask(0o027)
    try:
        write(path, 1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write(path, 2)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(umask)


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere" / "target")
    write(path, 1)
    assert path.is_symlink()
    assert (tmp_path / "elsewhere" / "target").read_text() == "1\n"


@pytest.mark.parametrize("grows", [False, True])
def test_a_full_disk_is_one_line(grows: bool) -> None:
    with pytest.raises(InputError, match=r"^/dev/full: cannot be written \(No space left on device\)$"):
        write(Path("/dev/full"), "x" * 100_000, grows=grows)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written \(No such file or directory\)"):
        write(tmp_path / "missing" / "file", 1)


@pytest.mark.parametrize(("answer", "left"), [("n", "old\n"), ("y", "1\n")])
def test_a_person_is_asked_before_a_file_is_overwritten(
    path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: str
) -> None:
    path.write_text("old\n")
    keyboard, terminal = os.openpty()
    monkeypatch.setattr(sys, "stdin", open(terminal, encoding="utf-8"))  # noqa: SIM115
    os.write(keyboard, f"{answer}\n".encode())
    if answer == "n":
        with pytest.raises(typer.Abort):
            write(path, 1)
    else:
        write(path, 1)
    assert path.read_text() == left
    write(path, 2, force=True)
    assert path.read_text() == "2\n"
    sys.stdin.close()
    os.close(keyboard)
