"""The command line: thin commands over the client, the store, operations and the cluster on this machine."""

from rlm_dist.cli.app import main

__all__ = ["main"]
