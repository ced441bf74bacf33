"""One large ``llm_query_batched`` beside the bare client, and over several sub workers."""

import math
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rlm_dist.bench.dictated import query
from rlm_dist.bench.rig import Rig, Used, endpoint, finished, measured, rig
from rlm_dist.bench.rows import Figure, Group, ratio

_CHARS = 2000
_IN_FLIGHT = 256
_SLOTS = 32
_ASK = """\
import time
prompts = [f"{{context}} {{n}} ".ljust({chars}, ".") for n in range({calls})]
began = time.perf_counter()
answers = llm_query_batched(prompts)
seconds = time.perf_counter() - began
assert len(answers) == {calls} and all(answer.ok for answer in answers)
FINAL(str(seconds))
"""


class Measured(NamedTuple):
    """One fan-out: its wall time as the model's code saw it, and what the whole job used."""

    calls: int
    seconds: float
    used: Used

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


def beside_bare(home: Path, *, calls: int, rounds: int) -> Iterator[Figure]:
    """At 100 ms: the bare client and the cluster take turns at one endpoint."""
    with endpoint(0.1) as served, rig(home, served, slots=_IN_FLIGHT) as cluster:
        fan_out(cluster, _IN_FLIGHT)  # opens the connections
        turns = [
            (measured("bare", served.url, calls, _IN_FLIGHT, _CHARS), fan_out(cluster, calls))
            for _ in range(rounds)
        ]
        commands = _commands(cluster, calls=min(calls, 1000))
    what = f"{calls:,} calls at 100 ms, {_IN_FLIGHT} in flight, ours ÷ bare SDK"
    yield ratio(
        Group.FAN_OUT,
        f"{what}: calls/s",
        [(ours.rate, calls / bare["seconds"]) for bare, ours in turns],
        "≥ 1.1",
    )
    cpu_ms = [(ours.used.ours_s / calls * 1e3, bare["cpu_s"] / calls * 1e3) for bare, ours in turns]
    row = ratio(Group.FAN_OUT, f"{what}: CPU ms of root + sub + Redis a call", cpu_ms, "≤ 1.3")
    used = turns[-1][1].used._asdict()
    yield row.model_copy(
        update={"parts": row.parts | {name[:-2]: seconds / calls * 1e3 for name, seconds in used.items()}}
    )
    yield Figure(
        group=Group.FAN_OUT, what="Redis commands a call, Celery's included", value=commands, aim="≤ 6"
    )


def at_one_second(home: Path, *, calls: int) -> Iterator[Figure]:
    """At 1 s: the makespan beside the ideal one, and beside the bare client's."""
    with endpoint(1.0) as served, rig(home, served, slots=_IN_FLIGHT) as cluster:
        fan_out(cluster, _IN_FLIGHT)
        bare_s = measured("bare", served.url, calls, _IN_FLIGHT, _CHARS)["seconds"]
        ours_s = fan_out(cluster, calls).seconds
    ideal_s = math.ceil(calls / _IN_FLIGHT)
    what = f"{calls:,} calls at 1 s, {_IN_FLIGHT} in flight: makespan ÷ ideal"
    parts = {"seconds": ours_s, "ideal": ideal_s, "bare SDK ÷ ideal": bare_s / ideal_s}
    yield Figure(group=Group.FAN_OUT, what=what, value=ours_s / ideal_s, aim="≤ 1.05", parts=parts)


def over_workers(home: Path, *, rounds: int) -> Iterator[Figure]:
    """As many rounds of full slots for each number of workers, so that the ideal is the same."""
    one_s = 0.0
    for subs in (1, 2, 4, 8):
        took_s = _seconds(home, calls=rounds * subs * _SLOTS, subs=subs, slots=_SLOTS)
        one_s = one_s or took_s
        what = f"{subs} sub workers of {_SLOTS} at 1 s: share of linear"
        parts = {"calls/s": rounds * subs * _SLOTS / took_s}
        yield Figure(group=Group.WORKERS, what=what, value=one_s / took_s, aim="≥ 0.95", parts=parts)


def growth(home: Path, *, few: int, many: int) -> Iterator[Figure]:
    """The CPU time of a call in a small and in a large job."""
    with endpoint(0.02) as served, rig(home, served, slots=_IN_FLIGHT) as cluster:
        fan_out(cluster, _IN_FLIGHT)
        costs = [fan_out(cluster, calls).used.ours_s / calls * 1e3 for calls in (few, many)]
    what = f"CPU ms a call in a job of {many:,} calls ÷ of {few:,}"
    yield Figure(
        group=Group.GROWTH,
        what=what,
        value=costs[1] / costs[0],
        aim="≈ 1",
        parts={"small": costs[0], "large": costs[1]},
    )


def fan_out(cluster: Rig, calls: int) -> Measured:
    """One job that asks ``calls`` new prompts at once."""
    return fan_outs(cluster, calls, jobs=1)


def fan_outs(cluster: Rig, calls: int, *, jobs: int) -> Measured:
    """As many jobs at once, each of which asks its part of ``calls`` at once; the time of the slowest."""
    before = cluster.used()
    code = _ASK.format(chars=_CHARS, calls=calls // jobs)
    running = [cluster.client.submit(str(random.random()), query(code)) for _ in range(jobs)]
    seconds = max(float(finished(job).answer or "") for job in running)
    return Measured(calls, seconds, cluster.used().since(before))


def _seconds(home: Path, *, calls: int, subs: int, slots: int) -> float:
    with endpoint(1.0) as served, rig(home, served, subs=subs, slots=slots) as cluster:
        fan_out(cluster, 2 * subs * slots)  # the limiter learns that this many calls may be in flight
        return fan_out(cluster, calls).seconds


def _commands(cluster: Rig, *, calls: int) -> float:
    """Commands that clients sent to the server during a fan-out; what its scripts do does not count."""
    seen: list[Any] = []
    with cluster.redis.monitor() as monitor:  # type: ignore[no-untyped-call]

        def listen() -> None:
            for command in monitor.listen():
                seen.append(command)
                if command["command"].startswith("ECHO end-of-bench"):
                    return

        listener = threading.Thread(target=listen)
        listener.start()
        fan_out(cluster, calls)
        cluster.redis.echo("end-of-bench")
        listener.join()
    return sum(1 for command in seen if command["client_type"] != "lua") / calls
