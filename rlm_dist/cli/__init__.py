"""The command line, a thin layer over all other packages; may import any of them but the workers."""

from rlm_dist.cli.app import main

__all__ = ["main"]
