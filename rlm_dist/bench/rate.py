"""How much of an endpoint with hidden limits is used, and how many calls it refuses, beside the bare SDK.

One job asks sub-calls through real worker processes, of a simulated endpoint that refuses some with a 429:
for no reason (noise), above a number at once (a capacity), above a number a second (a rate). The bare SDK
asks the same with its own retries, from one process, with as many calls at once as the workers have slots.
What an endpoint could have answered is its capacity by the time of an answer, or its rate, or the slots by
the time of an answer.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from rlm_dist.bench.rig import command, environment, settings_of
from rlm_dist.client.client import Client
from rlm_dist.local.cluster import workers
from rlm_dist.local.redis.server import server
from rlm_dist.schema import Wire
from rlm_dist.simulated.server import Latency, Rate, SimulatedEndpoint

SLOTS, SUBS = 256, 2
_SETTLING = 0.4
_WAIT_S = 300.0
_RETRY_AFTER_S = 1.0
_BURST = 20.0

Who = Literal["rlm_dist", "bare SDK"]


class Case(NamedTuple):
    """An endpoint: a number of calls to answer, or a time for each of its capacities (None: no limit)."""

    name: str
    latency_s: float
    noise: float = 0.0
    capacities: tuple[int | None, ...] = (None,)
    per_s: float | None = None
    calls: int | None = None
    seconds: float = 10.0

    def ideal(self, capacity: int | None) -> float:
        """Answers a second that it could give."""
        at_once = min(SLOTS, capacity or SLOTS) / self.latency_s
        return min(at_once, self.per_s or at_once)


CASES = (
    Case("no refusals", 0.5, calls=3000),
    Case("noise 1 %", 0.5, noise=0.01, calls=3000),
    Case("noise 2 %", 0.5, noise=0.02, calls=3000),
    Case("capacity 40", 0.2, capacities=(40,)),
    Case("capacity 40, noise 1 %", 0.2, noise=0.01, capacities=(40,)),
    Case("100 calls a second", 0.5, per_s=100.0, seconds=20.0),
    Case("100 a second, noise 1 %", 0.5, per_s=100.0, noise=0.01, seconds=20.0),
    Case("capacity 40, 80, 30", 1.0, capacities=(40, 80, 30), seconds=30.0),
)


class RateRow(Wire):
    """The outcome of one case; the shares are of what the endpoint could have answered."""

    case: str
    who: Who
    seconds: float
    answered: int
    refused: int
    used: float
    used_settled: float

    @property
    def refused_share(self) -> float:
        """Of all requests."""
        return self.refused / max(1, self.answered + self.refused)


def measure(cases: Sequence[Case] = CASES) -> Iterator[RateRow]:
    """Each case, by this project and by the bare SDK."""
    for case in cases:
        for who, asking in _ASKERS.items():
            with _endpoint(case) as endpoint, asking(endpoint, case):
                _await_first_request(endpoint)
                yield _row(case, who, endpoint)


def cells(rows: Sequence[RateRow]) -> Iterator[list[str]]:
    """The rows as cells of a table, its head first."""
    yield ["endpoint", "asked by", "seconds", "answered", "refused", "used", "used once settled"]
    for row in rows:
        shares = (row.refused_share, row.used, row.used_settled)
        counts = [f"{row.seconds:.1f}", f"{row.answered:,}"]
        yield [row.case, row.who, *counts, *(f"{share:.1%}" for share in shares)]


def _endpoint(case: Case) -> SimulatedEndpoint:
    return SimulatedEndpoint(
        latency=Latency(case.latency_s),
        capacity=case.capacities[0],
        rate=None if case.per_s is None else Rate(case.per_s, _BURST),
        noise=case.noise,
        retry_after_s=_RETRY_AFTER_S,
        sub=lambda _: "yes",
    )


def _calls(case: Case) -> int:
    """The calls of a case, or more than there is time for."""
    return case.calls or int(sum(1.5 * case.ideal(capacity) * case.seconds for capacity in case.capacities))


@contextmanager
def _workers(endpoint: SimulatedEndpoint, case: Case) -> Iterator[None]:
    with ExitStack() as life:
        home = Path(life.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        redis_url = life.enter_context(server(home))
        settings = settings_of(home, endpoint.url, redis_url, root_slots=1, slots=SLOTS // SUBS)
        life.enter_context(workers(settings, roots=1, subs=SUBS))
        client = life.enter_context(Client(settings))
        calls = _calls(case)
        job = client.submit("Who is it?\n" * calls, f"Label the first {calls} lines.")
        life.callback(job.cancel)
        yield


@contextmanager
def _sdk(endpoint: SimulatedEndpoint, case: Case) -> Iterator[None]:
    arguments = [endpoint.url, _calls(case), SLOTS]
    with subprocess.Popen(command("retrying_sdk", arguments), env=environment()) as process:
        try:
            yield
        finally:
            process.kill()


_ASKERS: dict[Who, Callable[[SimulatedEndpoint, Case], AbstractContextManager[None]]] = {
    "rlm_dist": _workers,
    "bare SDK": _sdk,
}


def _await_first_request(endpoint: SimulatedEndpoint) -> None:
    """Wait for the first sub-call: the turns of the root model are not measured."""
    _await(lambda: bool(endpoint.served.by_role.get("sub")), "nothing was asked")


def _row(case: Case, who: Who, endpoint: SimulatedEndpoint) -> RateRow:
    began = time.monotonic()
    spans = [_all_calls(case, endpoint)] if case.calls else list(_phases(case, endpoint))
    faults = endpoint.served.faults
    return RateRow(
        case=case.name,
        who=who,
        seconds=time.monotonic() - began,
        answered=sum(whole.answered for whole, _ in spans),
        refused=faults.get("capacity", 0) + faults.get("noise", 0),
        used=_used(whole for whole, _ in spans),
        used_settled=_used(settled for _, settled in spans),
    )


class _Span(NamedTuple):
    """The calls answered in a span of time, and the calls that could have been."""

    answered: int
    possible: float


def _used(spans: Iterable[_Span]) -> float:
    taken = list(spans)
    return sum(span.answered for span in taken) / sum(span.possible for span in taken)


def _all_calls(case: Case, endpoint: SimulatedEndpoint) -> tuple[_Span, _Span]:
    """Wait for the answers to all calls; there is no separate settling time."""
    calls, began = case.calls or 0, time.monotonic()
    _await(lambda: _answered(endpoint) >= calls, "not all calls were answered")
    span = _Span(calls, case.ideal(case.capacities[0]) * (time.monotonic() - began))
    return span, span


def _phases(case: Case, endpoint: SimulatedEndpoint) -> Iterator[tuple[_Span, _Span]]:
    """The span of each capacity, and the rest of it after the settling time."""
    for capacity in case.capacities:
        endpoint.capacity = capacity
        looks = [(_answered(endpoint), time.monotonic())]
        for part in (_SETTLING, 1 - _SETTLING):
            time.sleep(part * case.seconds)
            looks.append((_answered(endpoint), time.monotonic()))
        first, settled, last = looks
        whole, rest = (
            _Span(last[0] - since[0], case.ideal(capacity) * (last[1] - since[1]))
            for since in (first, settled)
        )
        yield whole, rest


def _answered(endpoint: SimulatedEndpoint) -> int:
    """The sub-calls that were answered."""
    served = endpoint.served.by_model.get("simulated-sub")
    return served.requests if served else 0


def _await(reached: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not reached():
        if time.monotonic() > deadline:
            raise RuntimeError(problem)
        time.sleep(0.005)
