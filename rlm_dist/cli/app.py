"""The ``rlm-dist`` command: its sub-commands, and the one place where errors become messages and exit codes.

Exit codes: 0 done; 1 failed; 2 bad usage or bad input; 3 ended without an answer; 4 cancelled; 5 Redis or the
model endpoint cannot be reached.
"""

import resource
import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

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
    "cost": "cost:cost",
    "metrics": "metrics:metrics",
    "cancel": "control:cancel",
    "pause": "control:pause",
    "resume": "control:resume",
    "retry": "control:retry",
    "finish": "control:finish",
    "trace": "trace:trace",
    "worker": "worker:worker",
    "flower": "monitor:flower",
    "up": "monitor:up",
    "model": "local:model",
    "demo": "local:demo",
    "doctor": "doctor:doctor",
    "env": "env:env",
    "bench": "bench:bench",
}


def make_cli(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The ``rlm-dist`` command with the sub-commands ``names``."""
    cli = typer.Typer(
        name="rlm-dist",
        help="Answer questions over contexts of any length with recursive language models, on many workers.",
        no_args_is_help=True,
        add_completion=False,
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
    names = [name for name in arguments[:1] if name in COMMANDS]
    if names != ["worker"]:  # the worker that it starts says so itself
        for variable in unknown_variables():
            typer.echo(clean(f"warning: {variable}"), err=True)
    try:
        make_cli(names or COMMANDS)(args=arguments, prog_name="rlm-dist", obj=tuple(arguments))
    except RLMError as error:
        sys.exit(report(error, as_json="--json" in arguments))


def _callback() -> None:
    """Makes Typer require the name of a sub-command even if there is only one."""
