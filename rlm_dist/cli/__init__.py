"""The command line, a thin layer over all other packages; may import any of them but the workers."""

import sys
from collections.abc import Sequence

_INTERRUPTED = 130  # what a shell makes of SIGINT


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit the process with its code; Ctrl-C while modules load ends it silently."""
    try:
        from rlm_dist.cli.app import main as run  # noqa: PLC0415  # Ctrl-C may come meanwhile

        run(argv)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


__all__ = ["main"]
