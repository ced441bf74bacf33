"""Prompt families from files: what is read, and what is refused by name."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from rlm_dist.engine.prompts import opening
from rlm_dist.engine.prompts.families import MAX_FILE_BYTES, check_family
from rlm_dist.errors import SettingsError
from rlm_dist.operations.doctor import examine
from rlm_dist.settings import Settings, load_settings
from rlm_dist.worker.prompt_file import read_prompts
from tests.support.environment import PROJECT
from tests.support.fake_repl import Run, spec
from tests.unit.operations.test_doctor import probes

GOOD = {
    "system": "Use context, repl, llm_query and FINAL. {braces}",
    "task": "{context} | {query} | {other}",
    "examples": [{"user": "u", "assistant": "a"}],
}


def write(path: Path, table: object) -> Path:
    path.write_text(json.dumps(table))
    return path


def test_the_texts_of_a_file_are_the_opening_and_braces_stay(tmp_path: Path) -> None:
    texts = read_prompts(write(tmp_path / "p.json", GOOD))
    messages = opening(spec("{context} {query}", prompts="file"), texts)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0].content == GOOD["system"]
    assert messages[-1].content == "`context` is a str of 9 characters. | {context} {query} | {other}"


def test_the_file_of_the_documents_is_a_good_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)^```$", (PROJECT / "docs/prompts.md").read_text(), re.S | re.M)
    (tmp_path / "p.toml").write_text(text)
    texts = read_prompts(tmp_path / "p.toml")
    assert texts == check_family(tomllib.loads(text), "x")
    assert texts is not None
    assert len(texts.examples) == 1


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"system": GOOD["system"]}, "task: is missing"),
        ({"task": GOOD["task"]}, "system: is missing"),
        (GOOD | {"sytem": "x"}, "sytem: is not known"),
        (GOOD | {"task": "{context}"}, "task: has no placeholder {query}"),
        (GOOD | {"task": "words"}, "task: has no placeholder {context} and no {query}"),
        (GOOD | {"system": "context repl FINAL"}, "system: does not mention llm_query"),
        (GOOD | {"examples": [{"user": "u"}]}, "examples: 0: assistant: is missing"),
        ([], "must be a table of texts"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, table: object, problem: str) -> None:
    path = write(tmp_path / "p.json", table)
    with pytest.raises(SettingsError) as caught:
        read_prompts(path)
    assert any(
        line.startswith(f"RLM_PROMPTS: {path}: ") and line.endswith(problem) for line in caught.value.problems
    )
    (check,) = [check for check in examine(Settings(prompts=path), probes()) if check.name == "prompt file"]
    assert check.status == "failed"
    assert problem in check.detail


@pytest.mark.parametrize("content", [b"{", b"\xff", b'"' + b"x" * MAX_FILE_BYTES + b'"', None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "p.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=re.escape(f"RLM_PROMPTS: {path}: ")):
        read_prompts(path)


def test_a_setting_is_a_family_or_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_PROMPTS", "mine/p.toml")
    settings = load_settings()
    assert settings.prompts == Path.cwd() / "mine/p.toml"
    assert settings.prompt_family == "file"
    assert settings.with_prompts("file").prompts == settings.prompts
    assert settings.with_prompts("small").prompts == "small"
    assert Settings(prompts=settings.variables()["RLM_PROMPTS"]).prompts == settings.prompts
    monkeypatch.setenv("RLM_PROMPTS", "codr")
    with pytest.raises(SettingsError, match=r"RLM_PROMPTS: .*must be one of coder, frugal, small, file, or"):
        load_settings()
    monkeypatch.setenv("RLM_PROMPTS", "file")
    assert read_prompts(load_settings().prompts) is None


def test_a_resumed_job_goes_on_with_the_texts_that_it_began_with(tmp_path: Path) -> None:
    texts = check_family(GOOD, "x")
    other = check_family(GOOD | {"task": "new {context} {query}"}, "x")
    steps = ("```repl\nprint(1)\n```", "FINAL(2)")
    first = Run(*steps, prompts="file", texts=texts)
    assert first.marks() == []
    for later in (other, None):
        again = Run(steps[1], prompts="file", texts=later, journal=first.written[:3])
        assert again.script.chats == first.script.chats[1:]
        assert again.marks() == ["prompts_changed"]


def test_a_job_that_asks_for_a_file_fails_on_a_worker_without_one() -> None:
    with pytest.raises(SettingsError, match="RLM_PROMPTS: the job asks for the prompts of a file"):
        Run(prompts="file")
