"""The options of a job: one group, which ``run`` and ``submit`` share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_group

from rlm_dist.cli.app import make_cli
from rlm_dist.cli.options import JOB_OPTIONS, NO_JOB_OPTIONS, JobOptions, takes_job_options
from rlm_dist.client import options as client_options
from rlm_dist.errors import InputError


def declared(command: str) -> dict[str, tuple[object, ...]]:
    """The options of a command, each as its help describes it."""
    params: list[Any] = get_group(make_cli([command])).commands[command].params
    return {
        param.name: (param.opts, param.help, param.metavar, param.default, param.required)
        for param in params
        if param.param_type_name == "option"
    }


def test_run_and_submit_declare_the_same_options_of_a_job() -> None:
    run, submit = declared("run"), declared("submit")
    assert set(JOB_OPTIONS) == {
        *("model", "sub_model", "sub_models", "tier", "sub_tier", "response_schema", "instructions", "tools"),
        *("max_iterations", "max_usd", "max_tokens", "max_seconds", "max_sub_calls"),
        *("max_depth", "child_models"),
        *("samples", "reduce"),
    }
    for name in JOB_OPTIONS:
        assert run[name] == submit[name], name
        assert run[name][0] == [f"--{name.replace('_', '-')}"]


def test_each_is_an_option_of_the_python_api() -> None:
    assert set(JOB_OPTIONS) <= client_options.JobOptions.model_fields.keys()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--max-usd", "0", "--model", "m", "--quick"], {"max_usd": 0.0, "model": "m"}),
        (
            ["--tools", "a, files:*", "--quick"],
            {"tools": ["a", "files:*"]},
        ),
        (
            ["--sub-models", "a, b:7b", "--tier", "flex", "--sub-tier", "default", "--quick"],
            {"sub_models": ["a", "b:7b"], "tier": "flex", "sub_tier": "default"},
        ),
    ],
)
def test_a_command_gets_those_that_were_given(arguments: list[str], expected: Mapping[str, Any]) -> None:
    seen: list[tuple[object, bool]] = []

    @takes_job_options
    def command(
        job: JobOptions = NO_JOB_OPTIONS, quick: Annotated[bool, typer.Option("--quick")] = False
    ) -> None:
        """Do it."""
        seen.append((job, quick))

    app = typer.Typer(add_completion=False)
    app.command()(command)
    app(args=arguments, standalone_mode=False)
    assert seen == [(expected, bool(arguments))]


def test_a_response_schema_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.json").write_text('{"type": "object"}')
    Path("bad.json").write_text("{")
    seen: list[object] = []

    @takes_job_options
    def command(job: JobOptions = NO_JOB_OPTIONS) -> None:
        """Do it."""
        seen.append(job["response_schema"])

    app = typer.Typer(add_completion=False)
    app.command()(command)
    app(args=["--response-schema", "good.json"], standalone_mode=False)
    assert seen == [{"type": "object"}]
    for name in ("bad.json", "missing.json"):
        with pytest.raises(InputError, match=f"--response-schema {name}: "):
            app(args=["--response-schema", name], standalone_mode=False)
