"""The shared limiter against models of endpoints: how much it uses of them, and how many calls they refuse.

The targets are counts of a run that depends on its seed alone; see ``limiter_model``.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.support.limiter_model import EndpointModel, Seen, World

SEEDS = (0, 1, 2)
ENDLESS = 1_000_000


class Case(NamedTuple):
    """An endpoint that could answer ``ideal`` calls a second, and the least use of it that passes."""

    name: str
    endpoint: Callable[[], EndpointModel]
    ideal: float
    seconds: float
    whole: float
    settled: float
    refused: float
    slots: int = 256


def moving(now: float) -> int:
    """A capacity that doubles, then falls below its first value."""
    return 40 if now < 30 else 80 if now < 60 else 30


CASES = [
    Case("capacity", lambda: EndpointModel(0.2, capacity=lambda _: 40), 200, 10, 0.8, 0.93, 0.03),
    Case("capacity, slow", lambda: EndpointModel(1.0, capacity=lambda _: 40), 40, 10, 0.8, 0.93, 0.08),
    Case("capacity, long", lambda: EndpointModel(0.2, capacity=lambda _: 40), 200, 60, 0.93, 0.93, 0.03),
    Case("both", lambda: EndpointModel(0.2, capacity=lambda _: 40, noise=0.01), 200, 20, 0.75, 0.8, 0.05),
    Case(
        "both, 2 %", lambda: EndpointModel(0.2, capacity=lambda _: 40, noise=0.02), 200, 20, 0.75, 0.8, 0.06
    ),
    Case("small", lambda: EndpointModel(0.2, capacity=lambda _: 8), 40, 30, 0.9, 0.93, 0.05),
    Case("tiny", lambda: EndpointModel(0.2, capacity=lambda _: 2), 10, 60, 0.85, 0.85, 0.12),
    Case("rate", lambda: EndpointModel(0.5, rate=100), 100, 40, 0.85, 0.9, 0.1),
    Case("rate and noise", lambda: EndpointModel(0.5, rate=100, noise=0.01), 100, 40, 0.85, 0.9, 0.1),
    Case("moving", lambda: EndpointModel(1.0, capacity=moving), 50, 90, 0.86, 0.92, 0.06),
    Case(
        "moving and noise", lambda: EndpointModel(1.0, capacity=moving, noise=0.01), 50, 90, 0.86, 0.92, 0.07
    ),
    Case("large", lambda: EndpointModel(5.0, capacity=lambda _: 400), 80, 50, 0.8, 0.85, 0.08, slots=512),
]


def seen_of(case: Case, processes: int, seed: int) -> Seen:
    """One run of a case."""
    world = World(case.endpoint(), calls=ENDLESS, slots=case.slots, processes=processes, seed=seed)
    return world.run(until=case.seconds)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_an_endpoint_can_take_is_used_and_little_is_refused(case: Case, processes: int) -> None:
    runs = [seen_of(case, processes, seed) for seed in SEEDS]
    assert mean([run.rate(0, case.seconds) / case.ideal for run in runs]) >= case.whole
    settled = [run.rate(0.4 * case.seconds, case.seconds) / case.ideal for run in runs]
    assert mean(settled) >= case.settled
    assert mean([run.refused_share for run in runs]) <= case.refused


@pytest.mark.parametrize("noise", [0.01, 0.02])
@pytest.mark.parametrize("processes", [1, 3])
def test_noise_costs_little_throughput(noise: float, processes: int) -> None:
    """Single refusals that have nothing to do with load: each such call waits alone, the others go on."""
    seconds = [
        mean([World(EndpointModel(0.5, noise=share), calls=6000, processes=processes, seed=seed).run().seconds
              for seed in SEEDS])
        for share in (0.0, noise)
    ]  # fmt: skip
    assert seconds[0] / seconds[1] >= 0.85


@pytest.mark.parametrize("processes", [1, 3])
def test_a_wait_that_all_calls_are_told_stops_all(processes: int) -> None:
    """A few hundred requests, not all that wait, discover a block; then everything goes on as before."""
    world = World(EndpointModel(0.2, blocked=(5.0, 15.0)), calls=ENDLESS, processes=processes)
    seen = world.run(until=30)
    assert sum(6 <= at < 15 for at in seen.starts) == 0
    assert seen.refused <= 256
    assert seen.rate(20, 30) >= 0.9 * 256 / 0.2


def test_a_wait_that_one_call_is_told_stops_that_call_alone() -> None:
    """If one call in a hundred is refused for a minute, the others go on at full speed."""
    seen = World(EndpointModel(0.2, noise=0.01, retry_after_s=60.0), calls=ENDLESS).run(until=20)
    assert seen.rate(5, 20) >= 0.9 * 256 / 0.2


@pytest.mark.parametrize("processes", [1, 3])
def test_an_endpoint_that_is_away_is_tried_one_call_at_a_time(processes: int) -> None:
    world = World(EndpointModel(0.2, away=(5.0, 65.0)), calls=ENDLESS, processes=processes)
    seen = world.run(until=100)
    assert sum(6 <= at < 65 for at in seen.starts) <= 12 * processes
    assert not seen.failed
    assert seen.rate(90, 100) >= 0.9 * 256 / 0.2


def test_the_share_of_a_process_that_dies_goes_to_the_others() -> None:
    world = World(EndpointModel(0.2, capacity=lambda _: 40), calls=ENDLESS, processes=3)

    def die() -> None:
        world.processes[0].dead = True
        world.endpoint.in_flight -= world.processes[0].permits.in_flight

    world.at(10, die)
    seen = world.run(until=40)
    assert seen.rate(25, 40) >= 0.9 * 200


@pytest.mark.parametrize("processes", [1, 3])
def test_a_ceiling_that_is_set_holds_within_a_second_and_so_does_its_end(processes: int) -> None:
    world = World(EndpointModel(0.2), calls=ENDLESS, processes=processes)
    above: list[float] = []

    def look() -> None:
        if world.endpoint.in_flight > 2:
            above.append(world.now)
        world.after(0.05, look)

    world.at(5, lambda: world.store.set_ceilings("2 - -"))
    world.at(6, look)
    world.at(15, lambda: world.store.set_ceilings(None))
    seen = world.run(until=20)
    assert [at for at in above if at < 15] == []
    assert seen.rate(6, 15) >= 0.9 * 2 / 0.2
    assert seen.rate(16, 20) >= 0.9 * 256 / 0.2


@pytest.mark.parametrize("processes", [1, 3])
def test_a_rate_that_is_set_holds_within_a_second_and_so_does_its_end(processes: int) -> None:
    world = World(EndpointModel(0.2), calls=ENDLESS, slots=64, processes=processes)
    world.at(5, lambda: world.store.set_ceilings("- 600 -"))
    world.at(15, lambda: world.store.set_ceilings(None))
    seen = world.run(until=20)
    started = len([at for at in seen.starts if 6 <= at < 15])
    assert 0.9 * 9 * 600 / 61 <= started <= 9 * 600 / 61 + 20
    assert seen.rate(16, 20) >= 0.9 * 64 / 0.2


def test_a_ceiling_binds_processes_whose_calls_only_run() -> None:
    """They report nothing but their lease, and no call may start before they have reported."""
    world = World(EndpointModel(30.0, jitter=1.0), calls=ENDLESS, slots=32, processes=2)
    world.at(10, lambda: world.store.set_ceilings("1 - -"))
    seen = world.run(until=36)
    assert len([at for at in seen.starts if at < 1]) == 32
    assert len(seen.answers) > 8  # the first of the 32 calls have ended,
    assert [at for at in seen.starts if at > 11] == []  # and none took their place: more than 1 are in flight
