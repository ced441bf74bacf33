"""Model calls over an OpenAI-compatible HTTP API, with all retries in one place.

``LLM`` makes the model calls of one worker process; ``check_endpoint`` lists the models of an endpoint.
Invariants: a call never raises for a problem with a model or its endpoint, it returns a ``CallResult`` with
a failure; and no text that this package writes contains a key, a header value or a prompt.
"""

from rlm_dist.llm.client import LLM, check_endpoint, check_endpoints
from rlm_dist.llm.retry import RetryPolicy

__all__ = ["LLM", "RetryPolicy", "check_endpoint", "check_endpoints"]
