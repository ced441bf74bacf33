"""How many calls the sub workers can run at once, and a job's fair share of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rlm_dist.schema import Role
from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart

_LEAST_WINDOW = 64
_LARGEST_WINDOW = 4096


class Window(NamedTuple):
    """How many calls one job may have in the queue or in flight, and how many workers are live."""

    calls: int
    workers: int


class WorkerStore(StorePart):
    """The part of the store for the workers' slots."""

    def announce_slots(
        self, worker: str, slots: int, ttl_ms: int, role: Role = Role.SUB, depth: int = 0
    ) -> None:
        """Announce how many calls, or jobs of a root worker, it can run at once; valid for ``ttl_ms``.

        ``depth`` is that of the jobs.
        """
        self._script("slots_announce", keys.slots(role, depth), worker, slots, ttl_ms)

    def announce_requests(self, worker: str, requests: Mapping[str, int], ttl_ms: int) -> None:
        """Announce how many requests of each job a worker has at endpoints; valid for ``ttl_ms``."""
        counts = [item for pair in requests.items() for item in pair]
        self._script("requests_announce", [keys.REQUESTS], worker, ttl_ms, *counts)

    def live(self, role: Role = Role.SUB, depth: int = 0) -> list[str]:
        """The sub workers, or processes of root workers, whose announcement of slots is still valid.

        ``depth`` is that of the jobs of root workers.
        """
        now_ms = self._now_ms()
        until = keys.slots(role, depth)[1]
        return self._reach(lambda: self._client.zrangebyscore(until, now_ms, "+inf"))

    def missing_depths(self, max_depth: int) -> list[int]:
        """The depths of the children of a job with this ``max_depth`` for which no root worker is alive."""
        return [depth for depth in range(1, max_depth) if not self.live(Role.ROOT, depth)]

    def has_turn(self, task: str, owner: str, *, every_ms: int) -> bool:
        """Whether this worker does a task that only one worker does in ``every_ms``."""
        return bool(self._reach(lambda: self._client.set(keys.turn(task), owner, nx=True, px=every_ms)))

    def fair_window(self) -> Window:
        """Twice one job's share of the live slots, within bounds, so that no slot waits for the job."""
        slots, workers, running = self._script("slots_live", [*keys.slots(Role.SUB), keys.LEASES])
        calls = 2 * int(slots) // max(1, int(running))
        return Window(min(max(calls, _LEAST_WINDOW), _LARGEST_WINDOW), int(workers))


def requests_by_job(announced: Mapping[str, str], now: Sequence[int]) -> dict[str, int]:
    """How many requests each job has under way, from the hash ``keys.REQUESTS`` and the server's TIME."""
    now_ms = now[0] * 1000 + now[1] // 1000
    total: Counter[str] = Counter()
    for text in announced.values():
        until_ms, *counts = text.split(" ")
        if int(until_ms) > now_ms:
            for job_id, count in zip(counts[::2], counts[1::2], strict=True):
                total[job_id] += int(count)
    return dict(total)
