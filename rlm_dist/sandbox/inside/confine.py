"""What the REPL process does to itself before any other code runs.

Here is the place for the lockdown (Landlock, seccomp): ``confine`` is called once, with a single thread,
after the imports and before the context is read.

There is no limit on the number of processes: RLIMIT_NPROC counts all processes and threads of the user, so
that it would stop threads here because of workers elsewhere, and it does not bind root at all.
"""

import contextlib
import ctypes
import resource
import signal
import sys
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "800"  # of 1000: where memory runs out, the kernel ends this process before its worker
_CPU_GRACE_S = 5


def tie_to_parent() -> None:
    """Die with the thread that started us (Linux), also while no Python code can run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def confine(limits: Mapping[str, int]) -> None:
    """Set the resource limits; they hold for whatever this process starts, too."""
    cpu_s = limits["cpu_s"]
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_AS, limits["memory_bytes"], limits["memory_bytes"])
    _limit(resource.RLIMIT_CPU, cpu_s, cpu_s + _CPU_GRACE_S)
    _limit(resource.RLIMIT_FSIZE, limits["file_size_bytes"], limits["file_size_bytes"])
    _limit(resource.RLIMIT_NOFILE, limits["open_files"], limits["open_files"])
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)


def _limit(kind: int, soft: int, hard: int) -> None:
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:  # a lower limit that we inherited stays
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))
