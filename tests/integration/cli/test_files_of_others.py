"""``submit`` with batch files that somebody else wrote: what they may read, and what they may ask for."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rlm_dist import Batch, Client
from rlm_dist.errors import InputError
from rlm_dist.settings import load_settings
from tests.support.command_line import Cli

LINE = {"id": "q1", "query": "What?", "context": "text"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("RLM_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RLM_API_URL", "http://127.0.0.1:1/v1")
    (tmp_path / "batch").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a text")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "batch"


@pytest.fixture
def cli(folder: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def batch(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "batch.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"q{n}", "query": "?"} | line) + "\n" for n, line in enumerate(lines))
    )
    return path


def test_each_bad_context_file_is_named_by_line_and_field_with_what_to_set(cli: Cli, folder: Path) -> None:
    names = ["/proc/self/environ", "/etc/shadow", "../texts/a.txt", "http://169.254.169.254/x", "s3://b/k"]
    done = cli("submit", batch(folder, *({"context_file": name} for name in names)), "--dry-run")
    assert done.code == 2
    for number, setting in enumerate(["--context-root"] * 3 + ["RLM_CONTEXT_URLS"] * 2, 1):
        (line,) = (line for line in done.err.splitlines() if f"line {number}: context_file: " in line)
        assert setting in line


def test_context_root_allows_a_folder_and_no_other(cli: Cli, folder: Path) -> None:
    texts = folder.parent / "texts"
    path = batch(folder, {"context_file": "../texts/a.txt"}, {"context_file": str(texts / "a.txt")})
    assert cli("submit", path, "--dry-run").code == 2
    assert cli("submit", path, "--dry-run", "--context-root", texts).code == 0
    assert cli("submit", path, "--dry-run", "--context-root", "texts").code == 0
    assert cli("submit", path, "--dry-run", "--context-root", folder).code == 2
    missing = cli("submit", path, "--dry-run", "--context-root", texts / "none")
    assert (missing.code, "is not a folder" in missing.err) == (2, True)


def test_the_limit_on_bytes_is_a_setting(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "b.txt").write_text("12345")
    monkeypatch.setenv("RLM_MAX_CONTEXT_BYTES", "4")
    done = cli("submit", batch(folder, {"context_file": "b.txt"}), "--dry-run")
    assert (done.code, "RLM_MAX_CONTEXT_BYTES" in done.err) == (2, True)


@pytest.mark.parametrize(
    "value", ["data.example.org", "file:///data/", "s3://a/,zip://x::http://b/", "s3://a/,,"]
)
def test_a_bad_list_of_urls_is_named(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("RLM_CONTEXT_URLS", value)
    done = cli("submit", batch(folder, LINE), "--dry-run")
    assert (done.code, "RLM_CONTEXT_URLS: " in done.err) == (2, True)


def test_a_batch_from_a_url_may_read_no_file_of_this_machine(cli: Cli, folder: Path) -> None:
    path = batch(folder, {"context_file": "texts/a.txt"})
    assert cli("submit", path.as_uri(), "--dry-run").code == 2
    assert cli("submit", path.as_uri(), "--dry-run", "--context-root", "texts").code == 0


def test_with_cap_the_options_are_ceilings(cli: Cli, folder: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"max_usd": 5},
        {"model": "dear"},
        {"extra_body": {"top_k": 9}},
        {"max_iterations": 10**6},
        {"max_usd": 0.1},
    ]
    path = batch(folder, *({"context": "c"} | line for line in lines))
    assert cli("submit", path, "--dry-run", "--max-usd", "1").code == 0
    done = cli("submit", path, "--dry-run", "--max-usd", "1", "--cap")
    assert done.code == 2
    for number, name in enumerate(["max_usd", "model", "extra_body", "max_iterations"], 1):
        assert f"line {number}: {name}: " in done.err
    assert "line 5" not in done.err


def test_the_python_api_has_both(folder: Path) -> None:
    path = batch(folder, {"context_file": "../texts/a.txt", "max_usd": 5})
    items = [json.loads(path.read_text()) | {"context_file": "/etc/hostname"}]
    with Client(load_settings().model_copy(update={"broker_prefix": ""})) as client:
        submits: list[Callable[..., Batch]] = [
            partial(client.submit_file, path),
            partial(client.submit_batch, items),
        ]
        for submit in submits:
            with pytest.raises(InputError, match=r"context_file: .*--context-root"):
                submit()
            with pytest.raises(InputError, match="max_usd: is above the ceiling"):
                submit(max_usd=1, cap=True, context_root="/")


def test_an_id_with_control_characters_keeps_every_line_of_output_whole(cli: Cli, folder: Path) -> None:
    name = "q\n\x1b[2Jbatch b1: completed"
    long = {"id": name, "query": "x" * 30_000, "context": "c"}
    shown = "q\\n\\x1b[2Jbatch b1: completed"
    out = cli("submit", batch(folder, long), "--dry-run").out
    (warning,) = (line for line in out.splitlines() if line.startswith("warning"))
    assert shown in warning
    twice = cli("submit", batch(folder, long, long), "--dry-run")
    assert "id: 'q\\n\\x1b[2Jbatch b1: completed' is already used" in twice.err
