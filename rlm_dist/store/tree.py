"""The jobs below a job: its children, their children, and so on."""

from collections.abc import Iterator, Sequence
from typing import Any

from rlm_dist.store import keys
from rlm_dist.store.connection import StoreConnection


def levels_below(connection: StoreConnection, job_ids: Sequence[str]) -> Iterator[list[str]]:
    """The children of these jobs, then the children of those, and so on; a level is read when asked for."""

    def read(ids: Sequence[str]) -> list[Any]:
        pipe = connection.client.pipeline(transaction=False)
        for job_id in ids:
            pipe.zrange(keys.job(job_id, "children"), 0, -1)
        return list(pipe.execute())

    level = list(job_ids)
    while level:
        replies = connection.patiently(lambda ids=level: read(ids))  # type: ignore[misc]
        level = [job_id for children in replies for job_id in children]
        if level:
            yield level
