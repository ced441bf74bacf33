"""The results of the calls of tools, by call id: what is stored is not called again in a later run."""

from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart, fenced, within_budget


class ToolCallStore(StorePart):
    """The part of the store for calls of tools."""

    def result(self, job_id: str, call_id: str) -> str | None:
        """The result of a call; None if it has none."""
        stored: str | None = self._reach(lambda: self._client.hget(keys.job(job_id, "tools"), call_id))
        return stored

    def settle(self, job_id: str, epoch: int, call_id: str, result: str) -> str:
        """Store the result of a call and count the call, unless it has one already; return the stored one.

        Raises:
            Superseded: if another worker holds the job, or the job has ended.
            LimitExceeded: if the job has no room for it.
        """
        reply = self._script("job_tool", keys.job_keys(job_id), epoch, call_id, result)
        (stored,) = within_budget(fenced(reply, job_id, epoch))
        return str(stored)
