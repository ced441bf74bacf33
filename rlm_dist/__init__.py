"""Recursive Language Models as a distributed worker system on Celery and Redis.

``Client`` submits jobs and batches to a cluster, ``AsyncClient`` does so from asyncio, and ``RLM_REPL`` is
the interface of a single model. All errors are kinds of ``RLMError``.

Each name in ``__all__`` is loaded when it is first used. So a worker or the sandbox's host, which import
parts of this package, need not load the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm_dist.client.async_client import AsyncBatch, AsyncClient, AsyncJob, AsyncSession
    from rlm_dist.client.client import Client
    from rlm_dist.client.handles import Batch, Job
    from rlm_dist.client.session import Session
    from rlm_dist.errors import (
        BlobError,
        CallError,
        Cancelled,
        ClientClosed,
        InputError,
        JobFailed,
        LimitExceeded,
        NotFound,
        RLMError,
        SettingsError,
        UnknownPrice,
        Unreachable,
    )
    from rlm_dist.rlm_repl import RLM, RLM_REPL
    from rlm_dist.schema import BatchRecord, BatchState, Costs, JobRecord, JobState, Result
    from rlm_dist.settings import Settings

__all__ = [
    "RLM",
    "RLM_REPL",
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "AsyncSession",
    "Batch",
    "BatchRecord",
    "BatchState",
    "BlobError",
    "CallError",
    "Cancelled",
    "Client",
    "ClientClosed",
    "Costs",
    "InputError",
    "Job",
    "JobFailed",
    "JobRecord",
    "JobState",
    "LimitExceeded",
    "NotFound",
    "RLMError",
    "Result",
    "Session",
    "Settings",
    "SettingsError",
    "UnknownPrice",
    "Unreachable",
]

_MODULES = {
    "client.async_client": ("AsyncBatch", "AsyncClient", "AsyncJob", "AsyncSession"),
    "client.client": ("Client",),
    "client.handles": ("Batch", "Job"),
    "client.session": ("Session",),
    "rlm_repl": ("RLM", "RLM_REPL"),
    "schema": ("BatchRecord", "BatchState", "Costs", "JobRecord", "JobState", "Result"),
    "settings": ("Settings",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
