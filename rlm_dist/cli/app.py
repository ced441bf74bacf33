"""The ``rlm-dist`` command: its sub-commands, and the one place where errors become messages and exit codes.

Exit codes: 0 done; 1 failed; 2 bad usage or bad input; 3 ended without an answer; 4 cancelled; 5 Redis or the
model endpoint cannot be reached.
"""

import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module, metadata
from typing import Annotated

import typer

from rlm_dist.cli.output import clean, plain_streams, report
from rlm_dist.errors import RLMError
from rlm_dist.settings import unknown_variables

# Only the command that runs is imported: importing the model SDK alone takes more than a second.
COMMANDS = {
    "run": "run:run",
    "submit": "batches:submit",
    "status": "status:status",
    "list": "listing:list_",
    "top": "top:top",
    "results": "batches:results",
    "export": "export:export",
    "wait": "wait:wait",
    "cost": "cost:cost",
    "metrics": "metrics:metrics",
    "limits": "limits:limits",
    "cancel": "control:cancel",
    "pause": "control:pause",
    "resume": "control:resume",
    "retry": "control:retry",
    "finish": "control:finish",
    "delete": "delete:delete",
    "trace": "trace:trace",
    "worker": "worker:worker",
    "flower": "monitor:flower",
    "up": "monitor:up",
    "model": "local:model",
    "demo": "local:demo",
    "doctor": "doctor:doctor",
    "env": "env:env",
    "simulate": "simulate:simulate",
    "bench": "bench:bench",
}


def make_cli(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The ``rlm-dist`` command with the sub-commands ``names``."""
    cli = typer.Typer(
        name="rlm-dist",
        help="Answer questions over contexts of any length with recursive language models, on many workers.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback()(_callback)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(f"rlm_dist.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            cli.add_typer(command, name=name)
        else:
            cli.command(name)(command)
    return cli


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit the process with its code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    plain_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a command stops what it has started
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys and texts
    # When a shell completes a line, the line is in this variable.
    words = arguments or os.environ.get("COMP_WORDS", "").split()[1:]
    names = [name for name in words[:1] if name in COMMANDS]
    if names == ["run"]:
        arguments = list(_several(arguments, "--context"))
    if names != ["worker"]:  # the worker that it starts says so itself
        for variable in unknown_variables():
            typer.echo(clean(f"warning: {variable}"), err=True)
    try:
        make_cli(names or COMMANDS)(args=arguments, prog_name="rlm-dist", obj=tuple(arguments))
    except RLMError as error:
        sys.exit(report(error, as_json="--json" in arguments))


def _several(arguments: Iterable[str], option: str) -> Iterator[str]:
    """The arguments with ``option`` before each of the values that follow it, as Click wants it."""
    taking = False
    for argument in arguments:
        if taking and (argument == "-" or not argument.startswith("-")):
            yield from (option, argument)
        else:
            taking = argument == option
            if not taking:
                yield argument


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rlm-dist {metadata.version('rlm-dist')}")
        raise typer.Exit


def _callback(
    version: Annotated[  # its callback does it all
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    """Makes Typer require the name of a sub-command even if there is only one."""
