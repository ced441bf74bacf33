"""Named points at which a test makes a process kill itself, as the loss of a machine would.

``RLM_CHAOS_DIE_AT`` is ``<point>`` or ``<point>:<n>``: the process dies when it comes to that point the n-th
time. Or it is ``@<folder>``, where a file named by a job's id says the same of that job alone, one line for
each death; whoever dies takes the line away first. Without the variable a point costs one comparison.
"""

import os
import signal
import threading
from collections import Counter
from pathlib import Path

VARIABLE = "RLM_CHAOS_DIE_AT"

_plan = os.environ.get(VARIABLE, "")
_lock = threading.Lock()
_passed: Counter[tuple[str, str]] = Counter()


def failpoint(name: str, job_id: str) -> None:
    """Die here, where the plan says so."""
    if _plan:
        _come_to(name, job_id)


def _come_to(name: str, job_id: str) -> None:
    file = Path(_plan[1:], job_id) if _plan.startswith("@") else None
    with _lock:
        _passed[name, job_id if file else ""] += 1
        plan, rest = _planned(file)
        wanted, _, count = plan.partition(":")
        if wanted != name or _passed[name, job_id if file else ""] != int(count or 1):
            return
        if file is not None and not _take(file, rest):
            return
        os.kill(os.getpid(), signal.SIGKILL)


def _planned(file: Path | None) -> tuple[str, str]:
    """The next death, and those after it."""
    if file is None:
        return _plan, ""
    try:
        plan, _, rest = file.read_text().partition("\n")
    except FileNotFoundError:
        return "", ""
    return plan.strip(), rest


def _take(file: Path, rest: str) -> bool:
    """Strike the line out; False where another process was faster."""
    taken = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.rename(taken)
    except FileNotFoundError:
        return False
    if rest:
        taken.write_text(rest)
        taken.rename(file)
    return True
