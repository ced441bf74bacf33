"""Model calls over an OpenAI-compatible HTTP API; may import schema and settings, never store.

All retries are made here. ``LLM`` is one worker process's way to its endpoints; ``check_endpoint`` asks an
endpoint what it serves. Invariant: trouble with a model or its endpoint is never raised by a call, it is a
``CallResult`` with a failure; and no key, no header and no prompt stands in any text that this package makes.
"""

from rlm_dist.llm.client import LLM, check_endpoint, check_endpoints
from rlm_dist.llm.retry import RetryPolicy

__all__ = ["LLM", "RetryPolicy", "check_endpoint", "check_endpoints"]
