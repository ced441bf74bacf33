"""Recursive Language Models as a distributed worker system on Celery and Redis.

Each name in ``__all__`` is loaded when it is first used. So a worker or the sandbox's host, which import
parts of this package, need not load the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm_dist.client.client import Client
    from rlm_dist.client.handles import Batch, Job
    from rlm_dist.errors import RLMError
    from rlm_dist.rlm_repl import RLM, RLM_REPL
    from rlm_dist.schema import BatchState, Costs, JobState, Result
    from rlm_dist.settings import Settings

__all__ = [
    "RLM",
    "RLM_REPL",
    "Batch",
    "BatchState",
    "Client",
    "Costs",
    "Job",
    "JobState",
    "RLMError",
    "Result",
    "Settings",
]

_MODULES = {
    "RLM": "rlm_repl",
    "RLM_REPL": "rlm_repl",
    "Batch": "client.handles",
    "BatchState": "schema",
    "Client": "client.client",
    "Costs": "schema",
    "Job": "client.handles",
    "JobState": "schema",
    "RLMError": "errors",
    "Result": "schema",
    "Settings": "settings",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
