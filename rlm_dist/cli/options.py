"""The options that several commands share, each with the one help text it has everywhere.

Models and limits of a job are a group: a command that ``takes_job_options`` gets those that were given as one
mapping, and hands them on to the client as they are.
"""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from inspect import Parameter
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from rlm_dist.errors import InputError
from rlm_dist.schema import MOST_DEPTH, MOST_SAMPLES, OnDivergence, Priority, PromptFamily, Reduce, Tier

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document on stdout, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")]
JobOrBatch = Annotated[str, typer.Argument(metavar="ID", help="The id of a job or of a batch.")]
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The id of a batch.")]
Divergence = Annotated[
    OnDivergence | None,
    typer.Option(
        "--on-divergence", help="A job's code gives a different result after its worker died. [default: warn]"
    ),
]
First = Annotated[
    Priority | None,
    typer.Option("--priority", help="Who starts first of the jobs that wait. [default: normal]"),
]
BatchMaxUsd = Annotated[float | None, typer.Option(min=0, help="Money all jobs may spend together, in USD.")]
BatchMaxTokens = Annotated[int | None, typer.Option(min=1, help="Tokens all jobs may use together.")]
Cache = Annotated[
    bool | None, typer.Option("--cache", help="Take answers that other jobs got to the same sub-calls.")
]
Prompts = Annotated[PromptFamily | None, typer.Option(help="Prompt family. [default: RLM_PROMPTS]")]
Local = Annotated[bool, typer.Option("--local", help="Use the small model on this machine.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of Flower. [default: 5555]")]
ContextRoot = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Context files may be here too. [default: only in the file's folder]"),
]
Cap = Annotated[bool, typer.Option("--cap", help="No line may exceed the options given here.")]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="NAME=VALUE", help="A tag, to filter and to split costs by; may be repeated."
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw it, as .svg or .png; needs pip install 'rlm-dist[plot]'."),
]
OutFile = Annotated[Path | None, typer.Option("-o", "--output", help="Write there instead of to stdout.")]


def _split(names: str | None) -> list[str] | None:
    return [name.strip() for name in names.split(",")] if names else None


def given(**values: object) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _json_of(file: str) -> object:
    try:
        return json.loads(Path(file).read_text("utf-8"))
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except (ValueError, RecursionError):
        problem = "is not JSON"
    raise InputError((f"--response-schema {file}: {problem}",))


def _text_or_file(value: str | None) -> str | None:
    """The text itself, or after an @ that of a file."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text("utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        raise InputError((f"--instructions: {value[1:]}: {why}",)) from None


def _names(names: str | None) -> list[str] | None:
    return [name.strip() for name in names.split(",")] if names else None


JobOptions = Mapping[str, Any]
NO_JOB_OPTIONS: JobOptions = MappingProxyType({})
JOB_OPTIONS: Mapping[str, Any] = {
    "model": Annotated[str | None, typer.Option(metavar="NAME", help="Root model. [default: RLM_MODEL]")],
    "sub_model": Annotated[
        str | None, typer.Option(metavar="NAME", help="Sub model. [default: RLM_SUB_MODEL]")
    ],
    "sub_models": Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            callback=_names,
            help="Models that code may name too, with commas. [default: RLM_SUB_MODELS]",
        ),
    ],
    "tools": Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            callback=_names,
            help="Tools of the workers that code may call, with commas.",
        ),
    ],
    "tier": Annotated[Tier | None, typer.Option(help="Service tier of all calls. [default: RLM_TIER]")],
    "sub_tier": Annotated[Tier | None, typer.Option(help="That of sub-calls. [default: RLM_SUB_TIER]")],
    "response_schema": Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            callback=lambda file: _json_of(file) if file else None,
            help="JSON Schema of the answer.",
        ),
    ],
    "instructions": Annotated[
        str | None,
        typer.Option(metavar="TEXT|@FILE", callback=_text_or_file, help="Hints for the root model's prompt."),
    ],
    "max_iterations": Annotated[
        int | None, typer.Option(min=1, help="Root turns. [default: RLM_MAX_ITERATIONS]")
    ],
    "max_usd": Annotated[float | None, typer.Option(min=0, help="Money a job may spend, in USD.")],
    "max_tokens": Annotated[int | None, typer.Option(min=1, help="Tokens a job may use, of both models.")],
    "max_seconds": Annotated[float | None, typer.Option(min=0.001, help="Time a job may run.")],
    "max_depth": Annotated[
        int | None, typer.Option(min=0, max=MOST_DEPTH, help="From 2 on, rlm_query starts jobs. [default: 1]")
    ],
    "child_models": Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", callback=_names, help="Root models of child jobs by depth, with commas."
        ),
    ],
    "max_sub_calls": Annotated[int | None, typer.Option(min=0, help="Sub-calls a job may make.")],
    "samples": Annotated[
        int | None,
        typer.Option(min=1, max=MOST_SAMPLES, metavar="K", help="Run a job K times and vote. [default: 1]"),
    ],
    "reduce": Annotated[Reduce | None, typer.Option(help="How samples vote. [default: majority]")],
}


def takes_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a job in place of its parameter ``job``, which holds those given."""

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        job = given(**{name: values.pop(name) for name in JOB_OPTIONS})
        command(job=job, **values)

    signature = inspect.signature(command)
    shared = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation)
        for name, annotation in JOB_OPTIONS.items()
    ]
    parameters: list[Parameter] = []
    for parameter in signature.parameters.values():
        parameters += shared if parameter.name == "job" else [parameter]
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # Typer reads it
    return with_options
