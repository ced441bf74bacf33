"""The file with settings: what it may say if nobody named it, and which keys go to an address in it."""

import re
from pathlib import Path

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.settings import load_settings

SECRET = "sk-hush"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "RLM_API_KEY", "RLM_API_URL", "RLM_SUB_API_URL", "RLM_ENV_FILE"):
        monkeypatch.delenv(name, raising=False)


def write(*lines: str) -> None:
    Path(".env").write_text("\n".join(lines))


def test_a_file_in_the_current_folder_sets_what_harms_nobody() -> None:
    write("RLM_MODEL=m", "RLM_MAX_ITERATIONS=3", "OTHER=x")
    settings = load_settings()
    assert (settings.model, settings.max_iterations) == ("m", 3)


@pytest.mark.parametrize(
    "line",
    [
        "RLM_API_URL=http://evil/v1",
        "export rlm_sub_api_url=http://evil/v1",
        f"RLM_API_KEY={SECRET}",
        f"OPENAI_API_KEY={SECRET}",
        'RLM_EXTRA_HEADERS={"a": "b"}',
        "RLM_ENDPOINTS=evil.toml",
        "RLM_REDIS_URL=redis://evil",
        "RLM_BLOB_URL=s3://evil",
        "RLM_HOME=evil",
        "RLM_SANDBOX=off",
        "RLM_SANDBOX_MIN=off",
        "RLM_SANDBOX_PACKAGES=evil",
        "RLM_WEBHOOK_SECRET=0123456789abcdef",
        "RLM_WEBHOOK_PRIVATE=true",
        "RLM_CONTEXT_URLS=https://evil/",
        "RLM_METRICS_ADDRESS=0.0.0.0",
    ],
)
def test_it_does_not_say_where_texts_go_or_what_confines_code(line: str) -> None:
    write("RLM_MODEL=m", line)
    name = line.removeprefix("export ").partition("=")[0].upper()
    with pytest.raises(SettingsError, match=rf"{name}: .*set RLM_ENV_FILE=\.env") as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_a_file_that_is_named_may_say_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    write("RLM_API_URL=http://mine/v1", f"RLM_API_KEY={SECRET}", "RLM_SANDBOX=seccomp")
    monkeypatch.setenv("RLM_ENV_FILE", ".env")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-place")
    settings = load_settings()
    assert (settings.api_url, settings.sandbox) == ("http://mine/v1", "seccomp")
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == SECRET


def test_a_named_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_ENV_FILE", "nowhere.env")
    with pytest.raises(SettingsError, match=re.escape("RLM_ENV_FILE: there is no file nowhere.env")):
        load_settings()


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["RLM_API_URL=http://a/v1"], "RLM_API_KEY"),
        (["RLM_API_URL=http://a/v1"], "OPENAI_API_KEY"),
        (["RLM_API_URL=http://a/v1"], "RLM_EXTRA_HEADERS"),
        (["RLM_SUB_API_URL=http://a/v1"], "RLM_SUB_API_KEY"),
        (["RLM_SUB_API_URL=http://a/v1"], "RLM_API_KEY"),
        (["RLM_SUB_API_URL=http://a/v1"], "OPENAI_API_KEY"),
        (["RLM_SUB_API_URL=http://a/v1", "RLM_SUB_API_KEY=k"], "RLM_SUB_EXTRA_HEADERS"),
    ],
)
def test_a_key_of_the_environment_goes_to_no_address_of_a_file(
    lines: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(*lines)
    monkeypatch.setenv("RLM_ENV_FILE", ".env")
    monkeypatch.setenv(name, f'{{"a": "{SECRET}"}}')
    with pytest.raises(SettingsError, match=f"{name}: is in the environment, but RLM_") as caught:
        load_settings()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "variables"),
    [
        (["RLM_API_URL=http://a/v1"], {"RLM_API_URL": "http://b/v1", "RLM_API_KEY": "k"}),
        (["RLM_SUB_API_URL=http://a/v1", "RLM_SUB_API_KEY=k"], {"RLM_API_KEY": "k"}),
        (["RLM_API_KEY=k"], {"RLM_API_URL": "http://b/v1"}),
        (["RLM_API_URL=http://a/v1"], {}),
    ],
)
def test_what_stands_in_one_place_is_used(
    lines: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(*lines)
    for name, value in {"RLM_ENV_FILE": ".env", **variables}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    for name, value in settings.variables().items():  # as a worker that this process starts gets them
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
