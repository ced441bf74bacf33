"""What a process starts for itself where nothing is configured: a Redis server, and worker processes."""

from rlm_dist.embedded.server import server

__all__ = ["server"]
