"""The root worker of a checkout: ``celery -A workers.root worker``."""

from rlm_dist.root_worker.app import app

__all__ = ["app"]
