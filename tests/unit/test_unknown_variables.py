"""A misspelt ``RLM_…`` variable is named with the nearest right one; its value is shown nowhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_dist.cli.app import main
from rlm_dist.operations.doctor import check_variables
from rlm_dist.settings import Settings, UnknownVariable, unknown_variables

# Read by compose, tests and child processes; none of them is a setting.
OTHERS = (
    *("RLM_CHAOS_DIE_AT", "RLM_CHAOS_SEED", "RLM_FLOWER_PORT", "RLM_LIFELINE_FD"),
    *("RLM_READY_FD", "RLM_REDIS_PASSWORD", "RLM_SUB_GRACE", "RLM_TEST_MODEL_HOME"),
)


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RLM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_nearest_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RLM_MODLE", "RLM_SUBMODEL", "RLM_SANDBX", "RLM_XYZZY", "UNRELATED"):
        monkeypatch.setenv(name, "hush")
    found = unknown_variables()
    assert found == [
        UnknownVariable("RLM_MODLE", "RLM_MODEL"),
        UnknownVariable("RLM_SANDBX", "RLM_SANDBOX"),
        UnknownVariable("RLM_SUBMODEL", "RLM_SUB_MODEL"),
        UnknownVariable("RLM_XYZZY", None),
    ]
    assert [str(variable) for variable in found[::3]] == [
        "RLM_MODLE is not a setting; did you mean RLM_MODEL?",
        "RLM_XYZZY is not a setting",
    ]


def test_a_line_of_the_env_file_counts_too() -> None:
    Path(".env").write_text("RLM_MODEL=m\nRLM_APIKEY=hush\nFLOWER_BASIC_AUTH=a:b\nexport rlm_modle=x\n")
    assert [variable.name for variable in unknown_variables()] == ["RLM_APIKEY", "RLM_MODLE"]


def test_settings_and_what_compose_tests_and_children_read_are_not_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*OTHERS, *(f"RLM_{field.upper()}" for field in Settings.model_fields)):
        monkeypatch.setenv(name, "1")
    assert unknown_variables() == []


def test_a_variable_that_the_endpoints_file_names_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("endpoints.toml").write_text('[[endpoint]]\nurl = "http://a/v1"\nkey_env = "RLM_KEY_OF_A"\n')
    monkeypatch.setenv("RLM_KEY_OF_A", "hush")
    monkeypatch.setenv("RLM_KEY_OF_B", "hush")
    monkeypatch.setenv("RLM_ENDPOINTS", "endpoints.toml")
    assert [variable.name for variable in unknown_variables()] == ["RLM_KEY_OF_B"]


def test_every_command_warns_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLM_MODLE", "hush")
    with pytest.raises(SystemExit):
        main(["status", "--help"])
    out, err = capsys.readouterr()
    assert "warning: RLM_MODLE is not a setting; did you mean RLM_MODEL?\n" in err
    assert "RLM_MODLE" not in out
    assert "hush" not in out + err


def test_a_worker_warns_at_its_start(tmp_path: Path) -> None:
    variables = {"RLM_REDIS_URL": "redis://127.0.0.1:1/0", "RLM_MODLE": "hush", "RLM_LOG_FORMAT": "json"}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "rlm_dist.sub_worker.app", "worker"],
        env={**os.environ, **variables}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    warning, end = map(json.loads, done.stderr.splitlines())
    assert (warning["event"], warning["name"], warning["nearest"]) == (
        *("unknown_setting", "RLM_MODLE", "RLM_MODEL"),
    )
    assert (end["event"], end["code"], done.returncode) == ("worker_not_started", 5, 5)
    assert "hush" not in done.stdout + done.stderr


def test_the_doctor_has_a_check_of_it() -> None:
    check = check_variables([UnknownVariable("RLM_MODLE", "RLM_MODEL"), UnknownVariable("RLM_XYZZY", None)])
    assert (check.name, check.status) == ("settings", "warning")
    assert check.detail == "RLM_MODLE, RLM_XYZZY: not a setting"
    assert check.hint == "Rename RLM_MODLE to RLM_MODEL.\nRemove RLM_XYZZY."
    check = check_variables([])
    assert (check.status, check.detail) == ("ok", "every RLM_ variable is a setting")
