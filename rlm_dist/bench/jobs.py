"""Many jobs, waiting and running."""

import math
import random
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from rlm_dist.bench.dictated import query
from rlm_dist.bench.rig import Rig, endpoint, finished, rig
from rlm_dist.bench.rows import Figure, Group, ratio
from rlm_dist.client.client import Client
from rlm_dist.client.handles import Job
from rlm_dist.local.redis.server import server
from rlm_dist.settings import Settings

_LATENCY_S = 0.2
_SLOTS = 8
_TURNS = 3
_CALLS = 8
_ASKED = 20
# The root model says the same again each turn.
_TURN = """\
turn = globals().get("turn", 0) + 1
print(turn, len(context))
if turn == {turns}:
    FINAL(turn)
"""


def at_work(home: Path, *, jobs: int) -> Iterator[Figure]:
    """Jobs of three turns, of which the second asks eight prompts at once."""
    with endpoint(_LATENCY_S) as served, rig(home, served, root_slots=_SLOTS) as cluster:
        for job in _batch(cluster.client, 2 * _SLOTS):  # each process creates what it keeps
            finished(job)
        before, began = cluster.used(), time.perf_counter()
        for job in _batch(cluster.client, jobs):
            finished(job)
        took_s, used = time.perf_counter() - began, cluster.used().since(before)
    bound_s = math.ceil(jobs / _SLOTS) * (_TURNS + 1) * _LATENCY_S
    what = f"{jobs} jobs of {_TURNS} turns and {_CALLS} sub-calls, {_SLOTS} at once: makespan ÷ lower bound"
    yield ratio(Group.JOBS, what, [(took_s, bound_s)], "≤ 1.15")
    what = "root CPU of such a job, all told"
    yield Figure(group=Group.JOBS, what=what, value=used.root_s / jobs * 1e3, unit="ms", aim="none set")


def turning(home: Path, *, jobs: int, few: int, many: int) -> Iterator[Figure]:
    """The cost of one more turn: model call, parsing, journal, the way to the REPL and back."""
    with endpoint(0.05) as served, rig(home, served, root_slots=_SLOTS) as cluster:
        _turned(cluster, 2 * _SLOTS, few)
        costs = [_turned(cluster, jobs, turns) for turns in (few, many)]
    parts = {f"a job of {turns} turns": cost for turns, cost in zip((few, many), costs, strict=True)}
    value = (costs[1] - costs[0]) / (many - few)
    what = "root CPU of one turn more, its model call included"
    yield Figure(group=Group.JOBS, what=what, value=value, unit="ms", aim="≤ 5", parts=parts)


def _turned(cluster: Rig, jobs: int, turns: int) -> float:
    """Root CPU of a job of ``turns`` turns, in ms."""
    before = cluster.used()
    items = [
        {"id": str(number), "query": query(_TURN.format(turns=turns)), "context": str(random.random())}
        for number in range(jobs)
    ]
    for job in cluster.client.submit_batch(items).jobs():
        finished(job)
    return cluster.used().since(before).root_s / jobs * 1e3


def dispatching(home: Path, *, few: int, many: int) -> Iterator[Figure]:
    """The gap between the end of a job and the start of the next, with few and with many jobs queued."""
    with endpoint(0.0) as served, rig(home, served, root_slots=1) as cluster:
        gaps = [_gap_ms(cluster.client, jobs) for jobs in (2 * _ASKED, few, many)]  # the first warms up
    what = f"from a job's end to the next one's start, {many:,} jobs waiting ÷ {few:,}"
    parts = {"ms with few": gaps[1], "ms with many": gaps[2]}
    yield Figure(group=Group.GROWTH, what=what, value=gaps[2] / gaps[1], aim="≈ 1", parts=parts)


def _gap_ms(client: Client, jobs: int) -> float:
    items = [
        {"id": str(number), "query": query("FINAL('here')"), "context": str(random.random())}
        for number in range(jobs)
    ]
    batch = client.submit_batch(items)
    first = batch.jobs()[:_ASKED]
    finished(first[-1])
    batch.cancel()
    records = [job.record() for job in first]
    gaps = [(after.started_ms or 0) - (before.ended_ms or 0) for before, after in pairwise(records)]
    return max(1.0, statistics.median(gaps))


def waiting(home: Path, *, few: int, many: int) -> Iterator[Figure]:
    """Submit and status with few and with many jobs in the queue, and no worker."""
    with (
        server(home) as url,
        Client(Settings(home=home, redis_url=url, blob_url=str(home / "blobs"))) as client,
    ):
        early = _submit_and_status_ms(client, few)
        _batch(client, many)
        late = _submit_and_status_ms(client, few)
    for name, then, now in zip(("submit", "status"), early, late, strict=True):
        what = f"{name} of a job, {many:,} jobs waiting ÷ none"
        yield Figure(
            group=Group.GROWTH,
            what=what,
            value=now / then,
            aim="≈ 1",
            parts={"ms before": then, "ms after": now},
        )


def _batch(client: Client, jobs: int) -> list[Job]:
    """Submit ``count`` jobs that are new to the store."""
    context = "\n".join(f"Who is {random.random()}?" for _ in range(_CALLS))
    items = [
        {"id": str(number), "query": f"Label the first {_CALLS} lines.", "context": context}
        for number in range(jobs)
    ]
    return client.submit_batch(items).jobs()


def _submit_and_status_ms(client: Client, jobs: int) -> tuple[float, float]:
    began = time.perf_counter()
    submitted = _batch(client, jobs)
    submit_s = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(_ASKED):
        for job in submitted[:_ASKED]:
            job.status()
    status_s = time.perf_counter() - began
    return submit_s / jobs * 1e3, status_s / _ASKED / min(jobs, _ASKED) * 1e3
