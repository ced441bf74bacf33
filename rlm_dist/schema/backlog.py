"""The backlog: what waits, what runs and what could run, for scalers and monitors."""

from rlm_dist.schema.base import Wire


class Backlog(Wire):
    """Numbers of one moment.

    ``jobs_waiting`` may start now, ``jobs_paused`` wait for their batch to be resumed. Of the running jobs,
    ``calls_waiting`` are the calls that no worker has claimed, ``calls_claimed`` those that one has, and
    ``calls_in_flight`` the requests that are at an endpoint. The live workers can run ``root_slots`` jobs and
    ``sub_slots`` calls at once. ``messages`` counts those in the queues, by
    ``<queue>:<priority>``: a message of a root queue is one job, one of ``rlm.sub`` up to 16 calls.
    """

    jobs_waiting: int
    jobs_paused: int
    jobs_running: int
    calls_waiting: int
    calls_claimed: int
    calls_in_flight: int
    root_slots: int
    sub_slots: int
    messages: dict[str, int]

    def fields(self) -> dict[str, int]:
        """All numbers under one name each, as in the Redis hash ``rlm:backlog``."""
        return {**self.model_dump(exclude={"messages"}), **self.messages}
