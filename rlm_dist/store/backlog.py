"""The backlog of jobs and calls: read from the state of jobs, and published in one hash for other tools."""

from collections.abc import Mapping
from typing import Any

from rlm_dist.schema import Role
from rlm_dist.schema.backlog import Backlog
from rlm_dist.store import keys
from rlm_dist.store.capacity import requests_by_job
from rlm_dist.store.connection import StorePart

# The jobs of a paused batch are dated ten minutes ahead; all others not ahead at all, by the clock of Redis.
_AHEAD_MS = 5_000


class BacklogStore(StorePart):
    """The part of the store for the backlog; ``lists`` are the broker's Redis lists by the names to show."""

    def read(self, lists: Mapping[str, str]) -> Backlog:
        """The backlog now."""
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
        calls_waiting, calls_claimed = self._calls(running)
        root_slots, sub_slots = (
            int(self._script("slots_live", [*keys.slots(role), keys.LEASES])[0])
            for role in (Role.ROOT, Role.SUB)
        )
        return Backlog(
            jobs_waiting=waiting,
            jobs_paused=paused,
            jobs_running=len(running),
            calls_waiting=calls_waiting,
            calls_claimed=calls_claimed,
            calls_in_flight=sum(requests_by_job(announced, now).values()),
            root_slots=root_slots,
            sub_slots=sub_slots,
            messages=dict(zip(lists, lengths, strict=True)),
        )

    def publish(
        self, lists: Mapping[str, str], *, prefix: str, owner: str, every_ms: int, ttl_ms: int
    ) -> None:
        """Write the backlog to ``<prefix>rlm:backlog``, unless a worker has done so within ``every_ms``."""
        key, lock = keys.backlog(prefix)
        if not self._reach(lambda: self._client.set(lock, owner, nx=True, px=every_ms)):
            return
        fields = self.read(lists).fields()

        def write() -> None:
            pipe = self._client.pipeline()
            pipe.hset(key, mapping=fields)
            pipe.pexpire(key, ttl_ms)
            pipe.execute()

        self._reach(write)

    def _calls(self, job_ids: list[str]) -> tuple[int, int]:
        """How many calls of these jobs no worker has claimed, and how many one has."""

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hlen(keys.job(job_id, "calls"))
                pipe.hlen(keys.job(job_id, "results"))
                pipe.hget(keys.job(job_id, "ledger"), "in_flight")
                pipe.hget(keys.job(job_id), "parent")
            return list(pipe.execute())

        replies = self._reach(read) if job_ids else []
        opened, settled = (sum(int(number) for number in replies[start::4]) for start in range(2))
        # A ledger counts the calls of the jobs below it, too.
        running = {keys.job(job_id) for job_id in job_ids}
        pairs = zip(replies[2::4], replies[3::4], strict=True)
        claimed = sum(int(number or 0) for number, parent in pairs if parent not in running)
        return max(0, opened - settled - claimed), claimed
