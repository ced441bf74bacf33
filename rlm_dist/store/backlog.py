"""The backlog of jobs and calls: read from the state of jobs, and published in one hash for other tools."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from rlm_dist.schema import MOST_DEPTH, Role
from rlm_dist.schema.backlog import Backlog, DepthLoad
from rlm_dist.store import keys
from rlm_dist.store.capacity import requests_by_job
from rlm_dist.store.connection import StorePart

# The jobs of a paused batch are dated ten minutes ahead; all others not ahead at all, by the clock of Redis.
_AHEAD_MS = 5_000


class _RunningLoad(NamedTuple):
    """Of the running jobs: the calls that no worker has, those that one has, and the jobs by depth."""

    calls_waiting: int
    calls_claimed: int
    jobs: Counter[int]


class BacklogStore(StorePart):
    """The part of the store for the backlog; ``lists`` are the broker's Redis lists by the names to show."""

    def read(self, lists: Mapping[str, str], max_depth: int = 1) -> Backlog:
        """The backlog now; the depths below ``max_depth`` are in it even if nothing is there."""
        now_ms = self._now_ms()

        def read_lists() -> list[Any]:
            pipe = self._client.pipeline()
            pipe.time()
            pipe.zcount(keys.QUEUED, "-inf", now_ms + _AHEAD_MS)
            pipe.zcount(keys.QUEUED, f"({now_ms + _AHEAD_MS}", "+inf")
            pipe.zrange(keys.LEASES, 0, -1)
            pipe.hgetall(keys.REQUESTS)
            for key in lists.values():
                pipe.llen(key)
            return list(pipe.execute())

        now, waiting, paused, running, announced, *lengths = self._reach(read_lists)
        of_running = self._of_running(running)
        *root_slots, sub_slots = self._slots()
        return Backlog(
            jobs_waiting=waiting,
            jobs_paused=paused,
            jobs_running=len(running),
            calls_waiting=of_running.calls_waiting,
            calls_claimed=of_running.calls_claimed,
            calls_in_flight=sum(requests_by_job(announced, now).values()),
            root_slots=root_slots[0],
            sub_slots=sub_slots,
            messages=dict(zip(lists, lengths, strict=True)),
            depths=_depths(root_slots, of_running.jobs, max_depth),
        )

    def publish(
        self,
        lists: Mapping[str, str],
        *,
        prefix: str,
        owner: str,
        every_ms: int,
        ttl_ms: int,
        max_depth: int = 1,
    ) -> None:
        """Write the backlog to ``<prefix>rlm:backlog``, unless a worker has done so within ``every_ms``."""
        key, lock = keys.backlog(prefix)
        if not self._reach(lambda: self._client.set(lock, owner, nx=True, px=every_ms)):
            return
        fields = self.read(lists, max_depth).fields()

        def write() -> None:
            pipe = self._client.pipeline()
            pipe.hset(key, mapping=fields)
            pipe.pexpire(key, ttl_ms)
            pipe.execute()

        self._reach(write)

    def _slots(self) -> list[int]:
        """The slots of the live root workers by depth, and then those of the sub workers."""
        of_workers = [*(keys.slots(Role.ROOT, depth) for depth in range(MOST_DEPTH)), keys.slots(Role.SUB)]
        replies = self._scripts_at_once("slots_live", [([*names, keys.LEASES], ()) for names in of_workers])
        return [int(slots) for slots, *_ in replies]

    def _of_running(self, job_ids: list[str]) -> _RunningLoad:
        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hlen(keys.job(job_id, "calls"))
                pipe.hlen(keys.job(job_id, "results"))
                pipe.hget(keys.job(job_id, "ledger"), "in_flight")
                pipe.hmget(keys.job(job_id), "parent", "depth")
            return list(pipe.execute())

        replies = self._reach(read) if job_ids else []
        opened, settled = (sum(int(number) for number in replies[start::4]) for start in range(2))
        # A ledger counts the calls of the jobs below it, too.
        running = {keys.job(job_id) for job_id in job_ids}
        pairs = zip(replies[2::4], replies[3::4], strict=True)
        claimed = sum(int(number or 0) for number, (parent, _) in pairs if parent not in running)
        jobs = Counter(int(depth or 0) for _, depth in replies[3::4])
        return _RunningLoad(max(0, opened - settled - claimed), claimed, jobs)


def _depths(slots: list[int], jobs: Counter[int], max_depth: int) -> tuple[DepthLoad, ...]:
    """The load of each depth, up to the deepest at which there is something."""
    loads = [DepthLoad(jobs_running=jobs[depth], slots=number) for depth, number in enumerate(slots)]
    used = [depth + 1 for depth, load in enumerate(loads) if load.jobs_running or load.slots]
    return tuple(loads[: max(max_depth, *used, 1)])
