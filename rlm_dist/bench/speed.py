"""All rows of ``rlm-dist bench speed``, in the order of the bars, and their shorter form."""

import tempfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from rlm_dist.bench import beside_peers, contexts, fan_out, footprint, jobs, one_call
from rlm_dist.bench.rows import Figure

Part = Callable[[Path], Iterator[Figure]]
BARS = (1, 2, 3, 4, 5, 6, 7, 8)


def measure(*, quick: bool, bars: Collection[int] = BARS) -> Iterator[Figure]:
    """Measure, a row at a time; each part has a folder and a cluster of its own."""
    for bar, part in _parts(quick=quick):
        if bar in bars:
            with tempfile.TemporaryDirectory(prefix="rlm-bench-") as home:
                yield from part(Path(home))


def _parts(*, quick: bool) -> list[tuple[int, Part]]:
    def sized(
        part: Callable[..., Iterator[Figure]], full: dict[str, object], short: dict[str, object]
    ) -> Part:
        return partial(part, **(short if quick else full))

    return [
        (1, sized(fan_out.beside_bare, {"calls": 5000, "rounds": 3}, {"calls": 1000, "rounds": 1})),
        (1, sized(fan_out.at_one_second, {"calls": 5120}, {"calls": 1024})),
        (2, sized(one_call.one_at_a_time, {"calls": 100, "rounds": 3}, {"calls": 30, "rounds": 1})),
        (3, sized(fan_out.over_workers, {"rounds": 30}, {"rounds": 3})),
        (4, sized(jobs.at_work, {"jobs": 500}, {"jobs": 24})),
        (4, sized(jobs.turning, {"jobs": 80, "few": 2, "many": 18}, {"jobs": 16, "few": 2, "many": 10})),
        (5, sized(footprint.importing, {"rounds": 5}, {"rounds": 3})),
        (5, sized(footprint.live_jobs, {"jobs": 50, "context_mb": 100}, {"jobs": 8, "context_mb": 20})),
        (6, sized(contexts.there_and_back, {"megabytes": (1, 100, 500)}, {"megabytes": (1, 100)})),
        (7, sized(beside_peers.beside_peers, {"calls": 500, "rounds": 3}, {"calls": 100, "rounds": 1})),
        (8, sized(fan_out.growth, {"few": 100, "many": 100_000}, {"few": 200, "many": 2000})),
        (8, sized(jobs.waiting, {"few": 100, "many": 10_000}, {"few": 100, "many": 1000})),
        (8, sized(jobs.dispatching, {"few": 40, "many": 10_000}, {"few": 40, "many": 400})),
    ]
