"""docker-compose.yml passes on every setting of a worker, with the defaults of the settings."""

import os
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from rlm_dist.settings import Settings, load_settings
from tests.support.environment import PROJECT

COMPOSE = PROJECT / "docker-compose.yml"
HOST_FILE = "a file of the host, which a container does not see: mount it, and set this beside the mount"
NOT_PASSED_ON = {
    "home": "the image has it",
    "endpoints": HOST_FILE,
    "prices": HOST_FILE,
    "root_depth": "the service of a depth gives it to its command",
    "mcp_servers": HOST_FILE,
    "broker_prefix": "set by a client that has workers of its own",
}
SET_BY_COMPOSE = {
    "redis_url": "the redis service, with its password",
    "blob_url": "the volume that all services share",
    "api_url": "localhost would be the container: the default is the host",
}


@pytest.fixture
def passed_on() -> dict[str, str]:
    environment: dict[str, str] = YAML(typ="safe").load(COMPOSE)["x-rlm"]["environment"]
    return environment


def test_each_setting_is_passed_on_or_there_is_a_reason(passed_on: dict[str, str]) -> None:
    fields = {name.removeprefix("RLM_").lower() for name in passed_on if name.startswith("RLM_")}
    assert fields == Settings.model_fields.keys() - NOT_PASSED_ON.keys()


def test_each_is_taken_from_the_variable_of_the_same_name(passed_on: dict[str, str]) -> None:
    for name, value in passed_on.items():
        if name.removeprefix("RLM_").lower() not in SET_BY_COMPOSE:
            assert re.fullmatch(rf"\$\{{{name}:-[^}}]*\}}", value), name


def test_what_nobody_sets_has_the_default_of_the_settings(
    passed_on: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty variable is as good as none: compose cannot leave one out."""
    for name in [name for name in os.environ if name.startswith(("RLM_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    expected = load_settings()
    for name, value in passed_on.items():
        if name.removeprefix("RLM_").lower() not in SET_BY_COMPOSE:
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
    assert load_settings() == expected
