"""One query with many sub-calls, beside other systems that do the same, each in separate processes.

All ask the same endpoint with the same latency and prompts. The time is that of a second query, so that
imports and start-up are left out for all; memory is the most that all processes of a peer hold together
during the first. The endpoint is nobody's.
"""

import importlib.metadata
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlm_dist.bench.rig import endpoint, measured
from rlm_dist.bench.rows import Figure, Group, ratio

INSTALL = "pip install -c deploy/constraints.txt '.[bench]'"

_LATENCY_S = 0.1
_IN_FLIGHT = 256
_FIGURES = {"s to the answer": "seconds", "CPU ms a call": "cpu_ms", "MB": "memory_mb"}


class Peer(NamedTuple):
    """Another system: its module in ``peers``, its calls in flight (0: its own default), its package."""

    name: str
    module: str
    in_flight: int
    package: str


PLAIN = Peer(f"a plain Celery group, {_IN_FLIGHT} threads", "plain_celery", _IN_FLIGHT, "celery")
PEERS = (
    PLAIN,
    Peer("rlms (16 at once, its default)", "rlms", 0, "rlms"),
    Peer(f"rlms (raised to {_IN_FLIGHT} at once)", "rlms", _IN_FLIGHT, "rlms"),
    Peer("dspy.RLM with LocalInterpreter (8 at once, its default)", "dspy_rlm", 0, "dspy"),
    Peer(f"dspy.RLM with LocalInterpreter (raised to {_IN_FLIGHT} at once)", "dspy_rlm", _IN_FLIGHT, "dspy"),
)


def beside_peers(
    _: Path, *, calls: int, rounds: int, peers: Sequence[Peer] | None = None
) -> Iterator[Figure]:
    """Alternate this project and the peers; a row for each peer, by default those that are installed."""
    chosen = [peer for peer in PEERS if is_installed(peer.package)] if peers is None else peers
    with endpoint(_LATENCY_S) as served:
        turns = [
            (
                measured("peers.ours", served.url, calls, _IN_FLIGHT),
                [measured(f"peers.{peer.module}", served.url, calls, peer.in_flight) for peer in chosen],
            )
            for _ in range(rounds)
        ]
    for number, peer in enumerate(chosen):
        yield _row(peer, calls, [(ours, others[number]) for ours, others in turns])


def is_installed(package: str) -> bool:
    """Whether a package is installed; it is not imported."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def missing(installed: Callable[[str], bool] = is_installed) -> str | None:
    """A note on the peers that are not installed, if any."""
    packages = dict.fromkeys(peer.package for peer in PEERS)
    absent = [name for name in packages if not installed(name)]
    if not absent:
        return None
    return f"not measured, since not installed: {', '.join(absent)}; to install, in a checkout: {INSTALL}"


def _row(peer: Peer, calls: int, pairs: Sequence[tuple[Any, Any]]) -> Figure:
    """The ratio of sub-calls a second, and what else was measured of both."""
    rates = [(calls / ours["asking_s"], calls / other["asking_s"]) for ours, other in pairs]
    what = f"{calls:,} sub-calls of a query at 100 ms, ours ÷ {peer.name}: sub-calls/s"
    row = ratio(Group.PEERS, what, rates, "> 1")
    parts = {
        f"{side}: {name}": statistics.median(pair[place][figure] for pair in pairs)
        for name, figure in _FIGURES.items()
        for place, side in enumerate(("ours", "other"))
    }
    return row.model_copy(update={"parts": row.parts | parts})
