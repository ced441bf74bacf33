"""What processes have used, read from ``/proc``: CPU seconds and memory of a process and all below it."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PPID, _UTIME, _CSTIME, _THREADS = (
    1,
    11,
    14,
    17,
)  # counted from the field after the name, see proc_pid_stat(5)


class Census(NamedTuple):
    """Processes and all below them: their memory (as ``memory_mb``), how many they are, and their threads."""

    mb: float
    processes: int
    threads: int


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and all below them; ended ones count if a parent waited for them."""
    return sum(_ticks(pid) for pid in _with_descendants(pids)) / _TICKS


def memory_mb(pids: Iterable[int]) -> float:
    """Memory of these processes and all below them in MB; a page that several share counts once (PSS)."""
    return sum(_pss_kb(pid) for pid in _with_descendants(pids)) / 1000


def census(pids: Iterable[int]) -> Census:
    """Count these processes and all below them; one that ends meanwhile does not count."""
    found = _with_descendants(pids)
    threads = [int(fields[_THREADS]) for fields in map(_stat, found) if fields]
    return Census(sum(map(_pss_kb, found)) / 1000, len(threads), sum(threads))


def description() -> str:
    """This machine and its Python, in one line."""
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    return f"{cores}, {platform.system()}, Python {platform.python_version()}"


def _with_descendants(pids: Iterable[int]) -> set[int]:
    parents = {pid: int(fields[_PPID]) for pid, fields in _all().items()}
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _all() -> dict[int, list[str]]:
    known = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            known[int(folder.name)] = fields
    return known


def _stat(pid: int) -> list[str]:
    """The fields of a process after its name; none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _ticks(pid: int) -> int:
    return sum(int(ticks) for ticks in _stat(pid)[_UTIME : _CSTIME + 1])


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
