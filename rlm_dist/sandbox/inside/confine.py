"""Resource limits of the REPL process, and the tie that ends it when its parent ends.

RLIMIT_NPROC counts all processes and threads of the user in a user namespace, and does not bind root. So it
limits the number of threads only where a REPL has a user or a user namespace of its own (``lockdown``);
elsewhere its fork-server counts them.
"""

import _signal  # type: ignore[import-not-found]
import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping

from .exits import EXIT_BROKEN

MAX_THREADS = 512
_PR_SET_PDEATHSIG = 1
_OOM_SCORE = b"800"  # of 1000: if memory runs out, the kernel ends this process before its worker
_CPU_GRACE_S = 5
_MAX_DESCRIPTORS = 1 << 20
# Those of ``signal`` search enums on top of this.
set_handler, DEFAULT_HANDLER = _signal.signal, _signal.SIG_DFL
LIBC = ctypes.CDLL(None, use_errno=True)  # loaded once: each load makes a new class


def tie_to_parent(parent: int | None = None) -> None:
    """Die with the thread that started this process (Linux), even while no Python code can run.

    ``parent`` is the process that must still be the parent; if it is not, this process ends.
    """
    if sys.platform == "linux":
        LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(EXIT_BROKEN)


def first_to_go() -> None:
    """Have the kernel end this process before others if memory runs out."""
    try:
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.write(file, _OOM_SCORE)
    os.close(file)


def hold_only(*descriptors: int) -> None:
    """Close all descriptors except the first three and these."""
    first = 3
    for descriptor in sorted(descriptors):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, _MAX_DESCRIPTORS)


def confine(limits: Mapping[str, int]) -> None:
    """Set the resource limits; they also hold for whatever this process starts."""
    cpu_s = limits["cpu_s"]
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_AS, limits["memory_bytes"], limits["memory_bytes"])
    _limit(resource.RLIMIT_CPU, cpu_s, cpu_s + _CPU_GRACE_S)
    _limit(resource.RLIMIT_FSIZE, limits["file_size_bytes"], limits["file_size_bytes"])
    _limit(resource.RLIMIT_NOFILE, limits["open_files"], limits["open_files"])


@contextlib.contextmanager
def memory(limit: int) -> Iterator[None]:
    """Limit this process to ``limit`` bytes of memory inside the ``with`` block."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    _limit(resource.RLIMIT_AS, limit, before[1])
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _limit(kind: int, soft: int, hard: int) -> None:
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:  # an inherited lower limit stays
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))
