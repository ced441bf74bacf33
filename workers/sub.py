"""The sub worker of a checkout: ``celery -A workers.sub worker``."""

from rlm_dist.sub_worker.app import app

__all__ = ["app"]
