"""Bars 1 and 3: one large ``llm_query_batched`` beside the bare client, and over several sub workers."""

import json
import math
import os
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rlm_dist.bench.rig import Endpoint, Rig, Used, endpoint, rig
from rlm_dist.bench.rows import Row
from rlm_dist.child_python import import_variables, module_command
from rlm_dist.events import CellRan, RootReplied
from rlm_dist.trace import Traced

_CHARS = 2000
_IN_FLIGHT = 256


class Measured(NamedTuple):
    """One fan-out: its wall time as the cell saw it, and what the whole job used."""

    calls: int
    seconds: float
    used: Used

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


def beside_bare(home: Path, *, calls: int, rounds: int) -> Iterator[Row]:
    """Bar 1 at 100 ms: the bare client and the cluster take turns at one endpoint."""
    with endpoint(0.1) as served, rig(home, served, slots=_IN_FLIGHT) as cluster:
        fan_out(cluster, _IN_FLIGHT)  # opens the connections
        turns = [(_bare(served, calls), fan_out(cluster, calls)) for _ in range(rounds)]
    rates = [(ours.rate, calls / bare["seconds"]) for bare, ours in turns]
    costs = [(ours.used.ours_s / calls * 1e3, bare["cpu_s"] / calls * 1e3) for bare, ours in turns]
    yield _ratio(1, f"calls/s of {calls:,} at 100 ms, ours ÷ bare SDK", rates, "≥ 1.1")
    row = _ratio(1, "CPU ms a call, root + sub + Redis ÷ bare SDK", costs, "≤ 1.3")
    used = turns[-1][1].used
    parts = {"root": used.root_s, "sub": used.sub_s, "Redis": used.redis_s, "endpoint": used.endpoint_s}
    yield row.model_copy(
        update={"parts": {**row.parts, **{name: s / calls * 1e3 for name, s in parts.items()}}}
    )
    yield Row(bar=1, what="Redis commands a call", value=used.commands / calls, unit="", aim="≤ 6")


def at_one_second(home: Path, *, calls: int) -> Iterator[Row]:
    """Bar 1 at 1 s: the makespan beside the ideal one."""
    with endpoint(1.0) as served, rig(home, served, slots=_IN_FLIGHT) as cluster:
        fan_out(cluster, _IN_FLIGHT)
        measured = fan_out(cluster, calls)
    ideal_s = math.ceil(calls / _IN_FLIGHT)
    parts = {"seconds": measured.seconds, "ideal": ideal_s}
    what = f"makespan of {calls:,} at 1 s, {_IN_FLIGHT} in flight ÷ ideal"
    yield Row(bar=1, what=what, value=measured.seconds / ideal_s, unit="", aim="≤ 1.05", parts=parts)


def fan_out(cluster: Rig, calls: int) -> Measured:
    """One job that asks ``calls`` prompts at once."""
    lines = [f"Who is {n}? {os.urandom(4).hex()}".ljust(_CHARS, ".") for n in range(calls)]
    before = cluster.used()
    trace = cluster.run("\n".join(lines), f"Label the first {calls} lines.")
    return Measured(calls, _cell_s(trace), cluster.used().since(before))


def _cell_s(trace: list[Traced]) -> float:
    """The time of the cell that asked: from the reply that wrote it to its end, the journal included."""
    (ran,) = [traced for traced in trace if isinstance(traced.event, CellRan) and traced.event.calls]
    turn = getattr(ran.event, "turn", None)
    (replied,) = [
        traced for traced in trace if isinstance(traced.event, RootReplied) and traced.event.turn == turn
    ]
    return (ran.at_ms - replied.at_ms) / 1000


def _bare(served: Endpoint, calls: int) -> dict[str, float]:
    command = module_command("rlm_dist.bench.bare", served.url, str(calls), str(_IN_FLIGHT), str(_CHARS))
    done = subprocess.run(command, env=os.environ | import_variables(), check=True, capture_output=True)
    return dict(json.loads(done.stdout))


def _ratio(bar: int, what: str, pairs: list[tuple[float, float]], aim: str) -> Row:
    """The median of the ratios of things measured in turns."""
    value = statistics.median(ours / bare for ours, bare in pairs)
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Row(bar=bar, what=what, value=value, unit="", aim=aim, parts={"ours": ours, "bare": bare})
