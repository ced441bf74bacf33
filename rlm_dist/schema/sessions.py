"""A session: several queries over one REPL, each a job; the jobs of a session form a chain.

The id of a job follows from the session and its position. So of two processes that ask at the same time, only
one creates the next job, and the chain is found without an index.
"""

import hashlib

from pydantic import Field, JsonValue

from rlm_dist.schema.base import Wire, _is_empty
from rlm_dist.schema.contexts import ContextRef


class AddedContext(Wire):
    """A context that a session got after its first one, under the user's name for it."""

    name: str
    context: ContextRef


class SessionPlace(Wire):
    """A job's place in its session: how many queries came before it, and what was added by then.

    ``added`` has all contexts added so far, in order. ``options`` are the session's own options, by name, for
    a process that continues it.
    """

    id: str
    position: int = Field(ge=0)
    added: tuple[AddedContext, ...] = Field(default=(), exclude_if=_is_empty)
    options: dict[str, JsonValue] = Field(default={}, exclude_if=_is_empty)

    @property
    def earlier_jobs(self) -> list[str]:
        """The ids of the jobs before this one, in order."""
        return [session_job_id(self.id, position) for position in range(self.position)]


def session_job_id(session_id: str, position: int) -> str:
    """The id of the job at a position of a session, counted from 0."""
    return f"j{hashlib.sha256(f'{session_id}/{position}'.encode()).hexdigest()[:20]}"
