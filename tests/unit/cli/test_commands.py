"""The group of commands, of which only the one that is named is loaded."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module

import pytest
import typer
from pydantic import TypeAdapter
from typer.testing import CliRunner

from rlm_dist.cli.app import make_cli
from rlm_dist.cli.commands import COMMANDS, load_command
from rlm_dist.simulated.faults import Fault

OF_A_JOB = ("status", "list", "cost", "cancel", "pause", "finish", "trace", "top", "limits", "env")


def python(code: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def loaded(*arguments: str, **variables: str) -> set[str]:
    """The modules that ``rlm-dist`` has loaded when it ends."""
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        f"from rlm_dist.cli import main; main({list(arguments)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_the_table_is_that_of_the_command(name: str) -> None:
    module, _, attribute = COMMANDS[name].place.partition(":")
    command = getattr(import_module(f"rlm_dist.cli.{module}"), attribute)
    assert COMMANDS[name].help == (
        command.info.help if isinstance(command, typer.Typer) else inspect.cleandoc(command.__doc__)
    )
    assert load_command(name).help == COMMANDS[name].help


def test_the_help_shows_each_command_in_the_order_of_the_table() -> None:
    shown = CliRunner().invoke(make_cli(), ["--help"]).output.partition("Commands:\n")[2]
    assert [line.split()[0] for line in shown.splitlines()] == list(COMMANDS)


def test_a_command_takes_its_options_and_the_short_form_of_help() -> None:
    shown = CliRunner().invoke(make_cli(), ["status", "-h"])
    assert shown.exit_code == 0
    assert "--watch" in shown.output
    assert "pull" in CliRunner().invoke(make_cli(), ["model", "-h"]).output


def test_a_wrong_name_is_refused_with_the_nearest_one() -> None:
    shown = CliRunner().invoke(make_cli(), ["statuz"])
    assert shown.exit_code == 2
    assert "Did you mean 'status'?" in shown.output


@pytest.mark.parametrize(
    ("words", "index", "completed"),
    [
        ("rlm-dist st", "1", "status"),
        ("rlm-dist model p", "2", "pull"),
        ("rlm-dist status --w", "2", "--watch"),
    ],
)
def test_a_shell_completes_commands_and_options(words: str, index: str, completed: str) -> None:
    code = "from rlm_dist.cli import main; main([])"
    shell = {"_RLM_DIST_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": index}
    done = python(code, shell)
    assert done.stdout.split() == [completed]


@pytest.mark.parametrize("module", ["rlm_dist.cli.app", "rlm_dist.settings", "rlm_dist.cli.status"])
def test_ctrl_c_while_modules_are_loaded_ends_a_command_without_a_traceback(module: str) -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from rlm_dist.cli import main\n"
        "main(['status'])"
    )
    done = python(code, {})
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_a_full_disk_behind_stdout_is_one_line(word: str) -> None:
    code = f"from rlm_dist.cli import main; main([{word!r}])"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "error: standard output: cannot be written (No space left on device)\n"


def test_the_example_of_faults_is_one() -> None:
    shown = CliRunner().invoke(make_cli(), ["simulate", "-h"], terminal_width=300).output
    example = re.search(r"such as (\[.*\])\.", shown)
    assert example
    assert TypeAdapter(list[Fault]).validate_json(example[1])


def test_help_loads_no_command_no_models_and_no_settings() -> None:
    names = loaded("--help", RLM_MODEL="m")
    assert "rlm_dist.cli.app" in names
    assert names & {"pydantic", "redis", "celery", "rich", "importlib.metadata", "rlm_dist.settings"} == set()
    assert {name for name in names if name.startswith("rlm_dist.cli.")} == {
        *("rlm_dist.cli.app", "rlm_dist.cli.commands"),
    }


@pytest.mark.parametrize("name", OF_A_JOB)
def test_a_command_about_a_job_loads_neither_the_sdk_nor_the_broker_nor_the_monitors(name: str) -> None:
    names = loaded(name, "--help")
    assert "rlm_dist.settings" in names
    heavy = {
        *("openai", "aiohttp", "celery", "kombu", "structlog", "prometheus_client", "jinja2", "tornado"),
        *(
            "rich",
            "matplotlib",
            "numpy",
            "rlm_dist.llm",
            "rlm_dist.sandbox",
            "rlm_dist.engine",
            "rlm_dist.otel",
        ),
        *("rlm_dist.client.client", "rlm_dist.broker.app"),
    }
    assert names & heavy == set()
