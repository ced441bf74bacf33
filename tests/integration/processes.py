"""Processes for tests: started, waited for by state, and always ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlm_dist.child_python import import_variables

ROOT = Path(__file__).resolve().parents[2]


def wait_until(state: Callable[[], bool], *, for_s: float = 30) -> None:
    """Return once ``state`` holds; fail where it does not within ``for_s``."""
    deadline = time.monotonic() + for_s
    while not state():
        assert time.monotonic() < deadline, "the state was not reached"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs under this id; a zombie does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z"


@contextmanager
def script(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code in a process group of its own, with pipes; the whole group is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | import_variables() | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def line(process: subprocess.Popen[str]) -> str:
    """Read the next line that the script prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
