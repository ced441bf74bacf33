"""What a process starts for itself where nothing is configured: a Redis server, and worker processes."""

from rlm_dist.embedded.cluster import Cluster
from rlm_dist.embedded.server import server
from rlm_dist.lifeline import watch_lifeline

__all__ = ["Cluster", "server", "watch_lifeline"]
