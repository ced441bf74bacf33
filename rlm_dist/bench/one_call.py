"""Bar 2: ``llm_query`` one at a time: what it adds to the endpoint's own time."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from rlm_dist.bench.dictated import query
from rlm_dist.bench.rig import Rig, endpoint, measured, rig
from rlm_dist.bench.rows import Row, percentile

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


def one_at_a_time(home: Path, *, calls: int, rounds: int) -> Iterator[Row]:
    """Added milliseconds at the median and at the 99th percentile, with the bare client's beside them."""
    with endpoint(_LATENCY_S) as served, rig(home, served) as cluster:
        _ask(cluster, 10)
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(rounds):
            bare += measured("bare", served.url, calls, 1, _CHARS)["each_s"]
            ours += _ask(cluster, calls)
    for name, share, aim in (("median", 0.5, "≤ 3"), ("p99", 0.99, "≤ 15")):
        added = [(percentile(values, share) - _LATENCY_S) * 1e3 for values in (ours, bare)]
        what = f"llm_query one at a time at {_LATENCY_S * 1e3:g} ms: added, {name}"
        yield Row(bar=2, what=what, value=added[0], unit="ms", aim=aim, parts={"bare SDK adds": added[1]})


def _ask(cluster: Rig, calls: int) -> list[float]:
    code = _ASK.format(calls=calls, chars=_CHARS)
    result = cluster.run(str(random.random()), query(code))
    return [float(seconds) for seconds in json.loads(result.answer or "")]
