"""The command line: thin commands over the client, the store and the embedded cluster."""

from rlm_dist.cli.app import main

__all__ = ["main"]
