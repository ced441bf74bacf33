"""The model client as the workers need it; ``llm.LLM`` is one."""

from concurrent.futures import Future
from typing import Protocol

from rlm_dist.schema import CallRequest, CallResult


class ModelClient(Protocol):
    """Makes model calls, many at once."""

    @property
    def away(self) -> bool:
        """Whether nothing is heard of any endpoint that was called."""

    def submit(self, request: CallRequest, job_id: str = "", /) -> "Future[CallResult]":
        """Start a call; its result tells of every failure, and cancelling the future aborts the request."""

    def drop(self, job_id: str, /) -> None:
        """End the calls of a job that wait as ``returned``; those under way go on."""

    def drain(self) -> None:
        """Start no request more: calls that wait end as ``returned``, those under way go on."""
