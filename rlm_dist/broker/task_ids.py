"""The ids of tasks, by which Celery's tools name them.

- A root task has the id of its job, ``<job>``; one that is sent again has ``<job>.r<Unix µs>``. Workers
  remember the ids of revoked tasks for hours, so a job that is retried must not be sent under its first id.
- A sub task has ``<job>.<n>``, where n counts the sub tasks of a run. In the runs after the first, whose
  epochs are above 1, it has ``<job>.<epoch>-<n>``.
"""

import re
import time

_AGAIN = re.compile(r"(.+)\.r\d+")


def root_task_id(job_id: str, *, again: bool) -> str:
    """The id of a root task; a new one at each call if it is sent again."""
    return f"{job_id}.r{time.time_ns() // 1000}" if again else job_id


def sub_task_id(job_id: str, epoch: int, number: int) -> str:
    """The id of a sub task: the ``number``-th of the run with this epoch."""
    return f"{job_id}.{number}" if epoch == 1 else f"{job_id}.{epoch}-{number}"


def job_of_root_task(task_id: str) -> str | None:
    """The id of the job, or None if this is the id of a sub task."""
    if (found := _AGAIN.fullmatch(task_id)) is not None:
        return found[1]
    return None if "." in task_id else task_id
