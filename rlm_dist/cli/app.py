"""The ``rlm-dist`` command: its sub-commands, and the one place where errors become messages and exit codes.

Exit codes: 0 done; 1 failed; 2 bad usage or bad input; 3 ended without an answer; 4 cancelled; 5 Redis or the
model endpoint cannot be reached.
"""

import errno
import gc
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NoReturn

import typer

from rlm_dist.cli.commands import COMMANDS, LazyGroup, not_loaded
from rlm_dist.errors import RLMError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BAD_INPUT = 2


def make_cli() -> typer.Typer:
    """The ``rlm-dist`` command."""
    cli = typer.Typer(
        name="rlm-dist",
        cls=LazyGroup,
        help="Answer questions over contexts of any length with recursive language models, on many workers.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback()(_callback)
    for name, entry in COMMANDS.items():
        cli.command(name, help=entry.help)(not_loaded)
    return cli


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit the process with its code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _plain_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a command stops what it has started
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys and texts
    if arguments[:1] == ["run"]:
        arguments = list(_several(arguments, "--context"))
    # Where no command is named, none runs. The worker that is started says so itself.
    if arguments and arguments[0] in COMMANDS and arguments[0] != "worker":
        _warn_of_unknown_variables()
    try:
        make_cli()(args=arguments, prog_name="rlm-dist", obj=tuple(arguments))
    except RLMError as error:
        from rlm_dist.cli.output import report  # noqa: PLC0415  # --help does without it

        sys.exit(report(error, as_json="--json" in arguments))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _end_on_full_disk(error)
    finally:
        gc.freeze()  # the last collections would visit all that is loaded


def _end_on_full_disk(error: OSError) -> NoReturn:
    """Exit with a message that names the file; without a name it is what stdout goes to."""
    if error.filename is None:  # what is left of stdout would fail again when the process ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from rlm_dist.cli.output import clean  # noqa: PLC0415  # --help does without it

    place = error.filename or "standard output"
    typer.echo(clean(f"error: {place}: cannot be written ({error.strerror})"), err=True)
    sys.exit(_BAD_INPUT)


def _warn_of_unknown_variables() -> None:
    from rlm_dist.cli.output import clean  # noqa: PLC0415  # --help does without them
    from rlm_dist.settings import unknown_variables  # noqa: PLC0415

    for variable in unknown_variables():
        typer.echo(clean(f"warning: {variable}"), err=True)


def _plain_streams() -> None:
    """Make stdout and stderr accept any text, even if the locale cannot encode it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test's stream may have none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


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
        from importlib import metadata  # noqa: PLC0415  # takes as long as the rest of --help

        typer.echo(f"rlm-dist {metadata.version('rlm-dist')}")
        raise typer.Exit


def _callback(
    version: Annotated[  # its callback does it all
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Makes Typer require the name of a sub-command even if there is only one."""
