"""The backlog: what waits, what runs and what could run, for scalers and monitors."""

from rlm_dist.schema.base import Wire


class DepthLoad(Wire):
    """The jobs of one depth that run, and how many of them the live workers can run at once."""

    jobs_running: int = 0
    slots: int = 0


class Backlog(Wire):
    """Numbers of one moment.

    ``jobs_waiting`` may start now, ``jobs_paused`` wait for their batch to be resumed. Of the running jobs,
    ``calls_waiting`` are the calls that no worker has claimed, ``calls_claimed`` those that one has, and
    ``calls_in_flight`` the requests that are at an endpoint. The live workers can run ``root_slots`` jobs of
    depth 0 and ``sub_slots`` calls at once. ``depths`` has the jobs and slots of each depth
    from 0. ``messages`` counts those in the queues, by ``<queue>:<priority>``: a message of a root queue is
    one job, one of ``rlm.sub`` up to 16 calls.
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
    depths: tuple[DepthLoad, ...] = ()

    def fields(self) -> dict[str, int]:
        """All numbers under one name each, as in the Redis hash ``rlm:backlog``."""
        deeper = {
            name: number
            for depth, load in enumerate(self.depths)
            for name, number in (
                (f"jobs_running.{depth}", load.jobs_running),
                (f"root_slots.{depth}", load.slots),
            )
            if depth
        }
        return {**self.model_dump(exclude={"messages", "depths"}), **deeper, **self.messages}
