"""One real call of a model, to see whether it can be called at all; it costs what such a call costs."""

from rlm_dist.errors import CallError, FailureKind, Unreachable
from rlm_dist.llm.client import HINTS, LLM
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.failures import shown_url
from rlm_dist.llm.retry import RetryPolicy
from rlm_dist.schema import CallRequest, CallResult, Message, Role

_PROMPT = "Reply with the word yes."
_MOST_TOKENS = 1024  # a model that thinks needs some before it writes a word


def try_call(endpoint: Endpoint, timeout_s: float = 60.0) -> CallResult:
    """Ask the endpoint's model for one word, once.

    Raises:
        Unreachable: nothing answers there as a model endpoint does.
        CallError: the call failed; its kind says what to do.
    """
    once = RetryPolicy(attempts=1, rate_attempts=1)
    llm = LLM({Role.ROOT: [endpoint]}, call_timeout_s=timeout_s, retry=once)
    message = Message(role="user", content=_PROMPT)
    request = CallRequest(role=Role.ROOT, model="auto", messages=(message,), max_output_tokens=_MOST_TOKENS)
    try:
        result = llm.submit(request, "doctor").result()
    finally:
        llm.close()
    if result.failure is not None:
        if result.failure.kind in (FailureKind.TRANSIENT, FailureKind.TIMEOUT):
            raise Unreachable("the model endpoint", shown_url(endpoint.url), result.failure.message, HINTS)
        raise CallError(FailureKind(result.failure.kind), result.failure.message)
    return result
