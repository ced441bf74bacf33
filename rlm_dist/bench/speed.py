"""All rows of ``rlm-dist bench speed``, in their groups, and their shorter form."""

import tempfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from rlm_dist.bench import (
    beside_peers,
    contexts,
    density,
    fan_out,
    footprint,
    jobs,
    long_reply,
    metrics_cost,
    one_call,
    wide,
)
from rlm_dist.bench.rows import Figure, Group

Part = Callable[[Path], Iterator[Figure]]


def measure(*, quick: bool, groups: Collection[Group] = tuple(Group)) -> Iterator[Figure]:
    """Measure, a row at a time; each part has its own folder and cluster."""
    for group, part in _parts(quick=quick):
        if group in groups:
            with tempfile.TemporaryDirectory(prefix="rlm-bench-") as home:
                yield from part(Path(home))


def _parts(*, quick: bool) -> list[tuple[Group, Part]]:
    def sized(
        part: Callable[..., Iterator[Figure]], full: dict[str, object], short: dict[str, object]
    ) -> Part:
        return partial(part, **(short if quick else full))

    return [
        (
            Group.FAN_OUT,
            sized(fan_out.beside_bare, {"calls": 5000, "rounds": 3}, {"calls": 1000, "rounds": 1}),
        ),
        (Group.FAN_OUT, sized(fan_out.at_one_second, {"calls": 5120}, {"calls": 1024})),
        (
            Group.ONE_CALL,
            sized(one_call.one_at_a_time, {"calls": 100, "rounds": 3}, {"calls": 30, "rounds": 1}),
        ),
        (
            Group.ONE_CALL,
            sized(one_call.in_a_loop, {"calls": 32, "latency_s": 1.0}, {"calls": 32, "latency_s": 0.2}),
        ),
        (Group.WORKERS, sized(fan_out.over_workers, {"rounds": 30}, {"rounds": 3})),
        (Group.JOBS, sized(jobs.at_work, {"jobs": 500}, {"jobs": 24})),
        (
            Group.JOBS,
            sized(jobs.turning, {"jobs": 80, "few": 2, "many": 18}, {"jobs": 16, "few": 2, "many": 10}),
        ),
        (Group.MEMORY, sized(footprint.importing, {"rounds": 5}, {"rounds": 3})),
        (
            Group.MEMORY,
            sized(footprint.live_jobs, {"jobs": 50, "context_mb": 100}, {"jobs": 8, "context_mb": 20}),
        ),
        (Group.DENSITY, sized(density.figures, {"jobs": 64}, {"jobs": 8})),
        (
            Group.DENSITY,
            sized(long_reply.figures, {"megabytes": 10, "rounds": 5}, {"megabytes": 10, "rounds": 2}),
        ),
        (
            Group.CONTEXTS,
            sized(contexts.there_and_back, {"megabytes": (1, 100, 500)}, {"megabytes": (1, 100)}),
        ),
        (
            Group.PEERS,
            sized(beside_peers.beside_peers, {"calls": 500, "rounds": 3}, {"calls": 100, "rounds": 1}),
        ),
        (Group.GROWTH, sized(fan_out.growth, {"few": 100, "many": 100_000}, {"few": 200, "many": 2000})),
        (Group.GROWTH, sized(jobs.waiting, {"few": 100, "many": 10_000}, {"few": 100, "many": 1000})),
        (
            Group.METRICS,
            sized(metrics_cost.on_and_off, {"calls": 5000, "rounds": 7}, {"calls": 2000, "rounds": 3}),
        ),
        *((Group.WIDTH, part) for part in _wide(quick=quick)),
        (Group.GROWTH, sized(jobs.dispatching, {"few": 40, "many": 10_000}, {"few": 40, "many": 400})),
    ]


def _wide(*, quick: bool) -> list[Part]:
    if quick:
        return [partial(wide.wide_worker, slots=1200, latency_s=2.0, aim="≤ 1.15 in the full form")]
    return [
        partial(wide.wide_worker, slots=2048, latency_s=5.0, aim="≤ 1.15"),
        partial(wide.wide_worker, slots=8192, latency_s=10.0, aim="≤ 1.3"),
    ]
