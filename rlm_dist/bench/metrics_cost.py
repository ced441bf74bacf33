"""What the metrics of workers cost: a cluster with them and one without, in turns; and counting a call."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from rlm_dist.bench.fan_out import fan_out
from rlm_dist.bench.rig import Used, endpoint, rig
from rlm_dist.bench.rows import Figure, Group, ratio
from rlm_dist.schema import CallRequest, CallResult, Completion, Message, Role, Usage
from rlm_dist.store import Settlement, Spend
from rlm_dist.worker.metrics import WorkerMetrics
from rlm_dist.worker.model_names import ModelNames

_SLOTS = 256
_COUNTED = 20_000


def on_and_off(home: Path, *, calls: int, rounds: int) -> Iterator[Figure]:
    """CPU of the workers a call, with metrics ÷ without; and the CPU of counting a call, beside a call's."""
    turns: list[tuple[float, float]] = []
    counts: list[float] = []
    with (
        endpoint(0.02) as served,
        rig(home / "on", served, slots=_SLOTS, metrics_port=0) as on,
        rig(home / "off", served, slots=_SLOTS) as off,
    ):
        clusters = (on, off)
        for cluster in clusters:
            fan_out(cluster, _SLOTS)  # opens the connections
        for number in range(rounds):
            order = clusters if number % 2 else clusters[::-1]
            ms = {id(cluster): _cpu_ms(fan_out(cluster, calls).used, calls) for cluster in order}
            turns.append((ms[id(on)], ms[id(off)]))
            counts.append(_count_ms())
    what = f"{calls:,} calls: CPU ms of root + sub a call, metrics on ÷ off"
    yield ratio(Group.METRICS, what, turns, "≤ 1.02")
    count_ms, call_ms = statistics.median(counts), statistics.median(off for _, off in turns)
    yield Figure(
        group=Group.METRICS,
        what="CPU of counting a call ÷ CPU of root + sub a call",
        value=count_ms / call_ms,
        aim="≤ 0.02",
        parts={"counting, ms": count_ms, "a call, ms": call_ms},
    )


def _cpu_ms(used: Used, calls: int) -> float:
    return (used.root_s + used.sub_s) / calls * 1e3


def _count_ms() -> float:
    """CPU milliseconds in which a process counts a served call."""
    metrics = WorkerMetrics(CollectorRegistry(), ModelNames())
    usage = Usage(input_tokens=500, cached_tokens=100, output_tokens=50)
    request = CallRequest(role=Role.SUB, model="auto", messages=(Message(role="user", content="x"),))
    completion = Completion(text="x", usage=usage, finish_reason="stop", model="model")
    result = CallResult(completion=completion, seconds=1.0, waited_s=0.1)
    settlement = Settlement("c", Role.SUB, "", Spend("model", usage, 1000))
    began = time.process_time()
    for _ in range(_COUNTED):
        metrics.call_ended(request, result, settlement, "model")
    return (time.process_time() - began) / _COUNTED * 1e3
