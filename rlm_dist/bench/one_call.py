"""``llm_query`` one at a time: what it adds to the endpoint's own time, and what a loop of it takes."""

import json
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

from rlm_dist.bench.dictated import query
from rlm_dist.bench.rig import Rig, endpoint, measured, rig
from rlm_dist.bench.rows import Figure, Group, percentile

_LATENCY_S = 0.05
_CHARS = 200
_ASK = """\
import time, json
took = []
for n in range({calls}):
    prompt = f"{{context}} {{n}}".ljust({chars}, ".")
    began = time.perf_counter()
    llm_query(prompt)
    took.append(time.perf_counter() - began)
FINAL(json.dumps(took))
"""
# The same calls, once in a loop that is planned, once in one that no plan is made for.
_LOOP = """\
import time, json
pieces = [f"{{context}} {{n}}" for n in range({calls})]
notes, began = [], time.perf_counter()
for piece in pieces:
    notes.append(llm_query("planned " + piece))
planned_s, began = time.perf_counter() - began, time.perf_counter()
while pieces:
    notes.append(llm_query("serial " + pieces.pop()))
FINAL(json.dumps([time.perf_counter() - began, planned_s]))
"""


def one_at_a_time(home: Path, *, calls: int, rounds: int) -> Iterator[Figure]:
    """Milliseconds over the endpoint's own, at the median and at p99, with the bare client's beside them."""
    ours: list[float] = []
    bare: list[float] = []
    own: list[float] = []
    with endpoint(_LATENCY_S) as served, rig(home, served) as cluster:
        _ask(cluster, 10)
        for _ in range(rounds):
            own += measured("plain_http", served.url, calls, _CHARS)["each_s"]
            bare += measured("bare", served.url, calls, 1, _CHARS)["each_s"]
            ours += _ask(cluster, calls)
    own_s = statistics.median(own)
    for name, share, aim in (("median", 0.5, "≤ 3"), ("p99", 0.99, "≤ 15")):
        added = [(percentile(values, share) - own_s) * 1e3 for values in (ours, bare)]
        what = f"llm_query one at a time at {_LATENCY_S * 1e3:g} ms: added to the endpoint's own, {name}"
        parts = {"bare SDK adds": added[1], "endpoint's own": own_s * 1e3}
        yield Figure(group=Group.ONE_CALL, what=what, value=added[0], unit="ms", aim=aim, parts=parts)


def in_a_loop(home: Path, *, calls: int, latency_s: float) -> Iterator[Figure]:
    """How many times faster a loop that only stores the answers is than one call after another."""
    with endpoint(latency_s) as served, rig(home, served) as cluster:
        _ask(cluster, 10)
        result = cluster.run(str(random.random()), query(_LOOP.format(calls=calls)))
    serial_s, planned_s = json.loads(result.answer or "")
    yield Figure(
        group=Group.ONE_CALL,
        what=f"llm_query in a loop over {calls} pieces at {latency_s:g} s: serial by planned",
        value=serial_s / planned_s,
        aim="≥ 11",
        parts={"serial s": serial_s, "planned s": planned_s},
    )


def _ask(cluster: Rig, calls: int) -> list[float]:
    code = _ASK.format(calls=calls, chars=_CHARS)
    result = cluster.run(str(random.random()), query(code))
    return [float(seconds) for seconds in json.loads(result.answer or "")]
