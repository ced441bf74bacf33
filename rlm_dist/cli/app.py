"""The ``rlm-dist`` command: its groups, and the one place where errors become words and exit codes.

Exit codes: 0 done; 1 failed; 2 bad usage or bad input; 3 ended without an answer; 4 cancelled; 5 Redis or the
model endpoint cannot be reached.
"""

import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

import typer

from rlm_dist.cli.output import clean, plain_streams, report
from rlm_dist.errors import RLMError
from rlm_dist.settings import unknown_variables

# Imported when called for: the model SDK alone takes more than a second, which "status" need not wait for.
COMMANDS = {
    "run": "run:run",
    "submit": "batches:submit",
    "status": "status:status",
    "top": "top:top",
    "results": "batches:results",
    "cost": "status:cost",
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
    "bench": "bench:bench",
}


def make_cli(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command with these of its sub-commands."""
    cli = typer.Typer(
        name="rlm-dist",
        help="Answer questions over contexts of any length with recursive language models, on many workers.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback()(_many)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        found = getattr(import_module(f"rlm_dist.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            cli.add_typer(found, name=name)
        else:
            cli.command(name)(found)
    return cli


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    plain_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what ends a command ends what it has started
    named = [name for name in arguments[:1] if name in COMMANDS]
    if named != ["worker"]:  # the worker that it starts says so itself
        for variable in unknown_variables():
            typer.echo(clean(f"warning: {variable}"), err=True)
    try:
        make_cli(named or COMMANDS)(args=arguments, prog_name="rlm-dist")
    except RLMError as error:
        sys.exit(report(error, as_json="--json" in arguments))


def _many() -> None:
    """Keeps Typer from leaving out the name of a command that is the only one."""
