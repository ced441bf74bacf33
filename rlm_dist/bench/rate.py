"""How much of an endpoint's capacity is used, and how many calls it refuses, where nobody told the capacity.

One job asks more sub-calls than there is time for, through real worker processes, of a simulated endpoint
that refuses with a 429 above a number of requests at once. That number moves; each phase has one. What an
endpoint could have answered in a phase is its capacity by the phase's length, divided by the time of an
answer.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rlm_dist.bench.rig import settings_of
from rlm_dist.client import Client
from rlm_dist.embedded import server
from rlm_dist.local_cluster import workers
from rlm_dist.models import Wire
from rlm_dist.simulated.server import Latency, SimulatedEndpoint

CAPACITIES = (40, 80, 30)
LATENCY_S = 1.0
SUBS, SLOTS = 3, 128
_SETTLING = 0.4
_WAIT_S = 120.0


class Phase(Wire):
    """A time of one capacity: the share of it that was used, in all and once settled; the share refused."""

    capacity: int
    seconds: float
    answered: int
    refused: int
    used: float
    used_settled: float

    @property
    def refused_share(self) -> float:
        """Of all requests."""
        return self.refused / max(1, self.answered + self.refused)


def measure(phase_s: float) -> list[Phase]:
    """Run the phases, each ``phase_s`` long."""
    with ExitStack() as held:
        endpoint = held.enter_context(
            SimulatedEndpoint(latency=Latency(LATENCY_S), capacity=CAPACITIES[0], sub=lambda _: "yes")
        )
        home = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        redis_url = held.enter_context(server(home))
        settings = settings_of(home, endpoint.url, redis_url, root_slots=1, slots=SLOTS)
        held.enter_context(workers(settings, roots=1, subs=SUBS))
        client = held.enter_context(Client(settings))
        calls = int(1.5 * sum(CAPACITIES) * phase_s / LATENCY_S)
        job = client.submit("Who is it?\n" * calls, f"Label the first {calls} lines.")
        held.callback(job.cancel)
        _await_first_answers(endpoint)
        return [_phase(endpoint, capacity, phase_s) for capacity in CAPACITIES]


def overall(phases: Sequence[Phase]) -> tuple[float, float]:
    """The share of the capacity that was used once settled, and the share of the requests refused, of all."""
    capacity = sum(phase.capacity * phase.seconds for phase in phases)
    used = sum(phase.used_settled * phase.capacity * phase.seconds for phase in phases) / capacity
    refused, answered = (
        sum(column) for column in zip(*((p.refused, p.answered) for p in phases), strict=True)
    )
    return used, refused / max(1, answered + refused)


def cells(phases: Sequence[Phase]) -> Iterator[list[str]]:
    """The phases as cells of a table, its head first."""
    yield ["capacity", "seconds", "answered", "refused", "refused share", "used", "used once settled"]
    for phase in phases:
        counts = [f"{phase.seconds:.0f}", str(phase.answered), str(phase.refused)]
        shares = (phase.refused_share, phase.used, phase.used_settled)
        yield [str(phase.capacity), *counts, *(f"{share:.1%}" for share in shares)]


def _await_first_answers(endpoint: SimulatedEndpoint) -> None:
    """Wait until sub-calls are answered: the root's own turns are not what is measured."""
    deadline = time.monotonic() + _WAIT_S
    while not endpoint.served.by_role.get("sub"):
        if time.monotonic() > deadline:
            raise RuntimeError("the workers asked nothing")
        time.sleep(0.01)


def _phase(endpoint: SimulatedEndpoint, capacity: int, seconds: float) -> Phase:
    endpoint.capacity = capacity
    looks = [(time.monotonic(), *_count(endpoint))]
    for part_s in (_SETTLING * seconds, (1 - _SETTLING) * seconds):
        time.sleep(part_s)
        looks.append((time.monotonic(), *_count(endpoint)))
    (began, answered, refused), (settled, answered_settled, _), (ended, answered_end, refused_end) = looks
    return Phase(
        capacity=capacity,
        seconds=ended - began,
        answered=answered_end - answered,
        refused=refused_end - refused,
        used=(answered_end - answered) * LATENCY_S / (capacity * (ended - began)),
        used_settled=(answered_end - answered_settled) * LATENCY_S / (capacity * (ended - settled)),
    )


def _count(endpoint: SimulatedEndpoint) -> tuple[int, int]:
    served = endpoint.served
    return served.answered, served.faults.get("capacity", 0)
