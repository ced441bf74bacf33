"""The protocols of a model client, as the workers use it; ``llm.LLM`` implements both."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from rlm_dist.schema import CallRequest, CallResult


class ModelClient(Protocol):
    """Makes model calls, many at once."""

    @property
    def away(self) -> bool:
        """Whether every endpoint that was called is away."""

    def submit(
        self, request: CallRequest, job_id: str = "", may_fall_back: Callable[[], bool] | None = None, /
    ) -> "Future[CallResult]":
        """Start a call; its result reports every failure, and cancelling the future aborts the request.

        ``may_fall_back`` is asked before a call goes from the flex tier to the default one.
        """

    def drop(self, job_id: str, /) -> None:
        """End the waiting calls of a job as ``returned``; calls in flight go on."""

    def drain(self) -> None:
        """Start no more requests: waiting calls end as ``returned``, calls in flight go on."""


class EndedCall(Protocol):
    """How a call ended; none of these waits."""

    def cancelled(self) -> bool:
        """Whether it was aborted."""

    def exception(self) -> BaseException | None:
        """The bug of ours that ended it, if any."""

    def result(self) -> CallResult:
        """What it brought, if neither of these ended it."""


class ManyCalls(Protocol):
    """Makes thousands of model calls at once."""

    @property
    def away(self) -> bool:
        """Whether every endpoint that was called is away."""

    def start(
        self,
        request: CallRequest,
        job_id: str,
        may_fall_back: Callable[[], bool] | None,
        when_over: Callable[[EndedCall], None],
        /,
    ) -> Callable[[], None]:
        """Start a call, and return what aborts it; ``when_over`` is called once, in another thread.

        It is ``ModelClient.submit`` without a future, which would hold two kilobytes for each call.
        """

    def drain(self) -> None:
        """Start no more requests: waiting calls end as ``returned``, calls in flight go on."""
