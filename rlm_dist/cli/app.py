"""The ``rlm-dist`` command: its groups, and the one place where errors become words and exit codes.

Exit codes: 0 done; 1 failed; 2 bad usage or input; 3 ended without an answer; 4 cancelled; 5 Redis or the
model endpoint cannot be reached.
"""

import sys
from collections.abc import Sequence

import typer

from rlm_dist.cli import batches, control, doctor, local, monitor, run, status, trace, worker
from rlm_dist.cli.output import plain_streams, report
from rlm_dist.errors import RLMError


def make_cli() -> typer.Typer:
    """The command with all its groups."""
    cli = typer.Typer(
        name="rlm-dist",
        help="Answer questions over contexts of any length with recursive language models, on many workers.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.command("run")(run.run)
    cli.command("submit")(batches.submit)
    cli.command("status")(status.status)
    cli.command("results")(batches.results)
    cli.command("cost")(status.cost)
    cli.command("cancel")(control.cancel)
    cli.command("pause")(control.pause)
    cli.command("resume")(control.resume)
    cli.command("trace")(trace.trace)
    cli.command("worker")(worker.worker)
    cli.command("flower")(monitor.flower)
    cli.command("up")(monitor.up)
    cli.add_typer(local.model, name="model")
    cli.command("demo")(local.demo)
    cli.command("doctor")(doctor.doctor)
    return cli


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    plain_streams()
    try:
        make_cli()(args=arguments, prog_name="rlm-dist")
    except RLMError as error:
        sys.exit(report(error, as_json="--json" in arguments))
