"""A tree of jobs: one that starts 20 children, each of which starts 20, over a few slots for each depth.

Each job asks its root model once. The jobs of the deepest level are the bulk of the work, so the tree can be
no faster than these, one round of slots after another, after one call of each level above.
"""

import base64
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rlm_dist.bench.dictated import query
from rlm_dist.bench.rig import endpoint, finished, rig
from rlm_dist.schema import Wire

LATENCY_S = 1.0
SLOTS = 4
DEPTHS = 3
_LEAF = "FINAL('1')"
_PARENT = """\
import base64
prompt = base64.b64decode({prompt!r}).decode()
FINAL(str(sum(map(int, rlm_query_batched([prompt] * {width})))))
"""


class TreeRun(Wire):
    """How long a tree took, in seconds, and its bound; ``counted`` root calls were paid for."""

    width: int
    jobs: int
    counted: int
    seconds: float
    bound_s: float

    @property
    def ratio(self) -> float:
        """The time by its bound."""
        return self.seconds / self.bound_s


def measure(width: int) -> TreeRun:
    """Run a tree of 1 x ``width`` x ``width`` jobs."""
    with (
        tempfile.TemporaryDirectory(prefix="rlm-bench-") as home,
        endpoint(LATENCY_S) as served,
        rig(Path(home), served, root_slots=SLOTS, max_depth=DEPTHS) as cluster,
    ):
        # Each process creates what it keeps.
        finished(cluster.client.submit("tree", _tree(SLOTS), max_depth=DEPTHS))
        began = time.monotonic()
        result = finished(cluster.client.submit("tree", _tree(width), max_depth=DEPTHS))
        seconds = time.monotonic() - began
    if result.answer != str(width * width):
        raise RuntimeError(f"the tree has {result.answer} leaves instead of {width * width}")
    return TreeRun(
        width=width,
        jobs=1 + width + width * width,
        counted=result.costs.root_llm_calls,
        seconds=seconds,
        bound_s=LATENCY_S * (DEPTHS - 1 + math.ceil(width * width / SLOTS)),
    )


def rows(found: TreeRun) -> Sequence[list[str]]:
    """The measurement as cells of a table, their head first."""
    return [
        ["jobs", "root calls paid", "took", "bound", "took / bound"],
        [
            f"{found.jobs:,}",
            f"{found.counted:,}",
            f"{found.seconds:.1f} s",
            f"{found.bound_s:.1f} s",
            f"{found.ratio:.2f}",
        ],
    ]


def _tree(width: int) -> str:
    """The query of the top job."""
    asked = query(_LEAF)
    for _ in range(DEPTHS - 1):
        prompt = base64.b64encode(asked.encode()).decode()
        asked = query(_PARENT.format(prompt=prompt, width=width))
    return asked
