"""Named points at which a test makes a process kill itself, as the loss of a machine would.

``RLM_CHAOS_DIE_AT`` is ``<point>`` or ``<point>:<n>``: the process dies when it reaches that point for the
n-th time. Or it is ``@<folder>``: a file there, named by a job's id, plans the deaths of that job alone, one
line each; a process removes its line before it dies. Without the variable a point costs one comparison.
"""

import os
import signal
import threading
from collections import Counter
from pathlib import Path

VARIABLE = "RLM_CHAOS_DIE_AT"

_plan = os.environ.get(VARIABLE, "")
_lock = threading.Lock()
_counts: Counter[tuple[str, str]] = Counter()


def failpoint(name: str, job_id: str) -> None:
    """Die here if the plan says so."""
    if _plan:
        _reach(name, job_id)


def _reach(name: str, job_id: str) -> None:
    file = Path(_plan[1:], job_id) if _plan.startswith("@") else None
    with _lock:
        _counts[name, job_id if file else ""] += 1
        plan, rest = _next_death(file)
        point, _, count = plan.partition(":")
        if point != name or _counts[name, job_id if file else ""] != int(count or 1):
            return
        if file is not None and not _remove_line(file, rest):
            return
        os.kill(os.getpid(), signal.SIGKILL)


def _next_death(file: Path | None) -> tuple[str, str]:
    """The next planned death, and the lines after it."""
    if file is None:
        return _plan, ""
    try:
        plan, _, rest = file.read_text().partition("\n")
    except FileNotFoundError:
        return "", ""
    return plan.strip(), rest


def _remove_line(file: Path, rest: str) -> bool:
    """Remove the first line; False if another process was faster."""
    private = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.rename(private)
    except FileNotFoundError:
        return False
    if rest:
        private.write_text(rest)
        private.rename(file)
    return True
