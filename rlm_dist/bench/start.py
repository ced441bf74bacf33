"""How long commands take from nothing: the help, a look at the jobs, and a whole job on this machine.

``python -c pass`` is measured in turns with them, as the unit: wall times depend on what else the machine
does. CPU time is that of a command and of all processes that it waits for; the embedded server ends by itself
and is not among them.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rlm_dist.bench.rig import endpoint, environment
from rlm_dist.local.child_python import module_command
from rlm_dist.local.redis.server import server
from rlm_dist.schema import Wire
from rlm_dist.simulated.server import ROOT_MODEL, SUB_MODEL

UNIT = "python -c pass"


class Took(NamedTuple):
    """Seconds of one process."""

    wall_s: float
    cpu_s: float


class StartRow(Wire):
    """The medians of one command, and its CPU time by that of the unit."""

    what: str
    wall_s: float
    cpu_s: float
    units: float


def measure(times: int) -> list[StartRow]:
    """Run each command ``times`` times, in turns."""
    found: dict[str, list[Took]] = {}
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as folder, endpoint(0.0) as served:
        for number in range(times):
            for what, took in _round(Path(folder) / str(number), served.url):
                found.setdefault(what, []).append(took)
    unit = statistics.median(took.cpu_s for took in found[UNIT])
    return [_row(what, all_, unit) for what, all_ in found.items()]


def rows(found: Sequence[StartRow]) -> Iterator[list[str]]:
    """The figures as cells of a table, its head first."""
    yield ["command", "wall", "CPU", f"CPU by that of {UNIT}"]
    for row in found:
        yield [row.what, f"{row.wall_s:.2f} s", f"{row.cpu_s:.2f} s", f"{row.units:.1f}"]


def _round(home: Path, url: str) -> Iterator[tuple[str, Took]]:
    variables = {
        **{name: value for name, value in environment().items() if not name.startswith("RLM_")},
        "RLM_HOME": str(home),
        "RLM_ENDPOINTS": os.devnull,
        "RLM_LOG_LEVEL": "error",
        "RLM_API_URL": url,
        "RLM_SUB_API_URL": url,
        "RLM_MODEL": ROOT_MODEL,
        "RLM_SUB_MODEL": SUB_MODEL,
    }
    home.mkdir()
    context = home / "context.txt"
    context.write_text("Who is it?\n" * 10)
    job = module_command("rlm_dist", "run", "--context", str(context), "--query", "Label the first 3 lines.")
    yield UNIT, _took([sys.executable, "-c", "pass"], variables)
    yield "rlm-dist --help", _took(module_command("rlm_dist", "--help"), variables)
    with server(home):
        yield "rlm-dist status, Redis runs", _took(module_command("rlm_dist", "status"), variables)
    yield "rlm-dist run, in a new RLM_HOME", _took(job, variables)
    yield "the same again", _took(job, variables)


def _took(command: Sequence[str], variables: Mapping[str, str]) -> Took:
    """Run a command to its end; one that fails ends the benchmark."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=words, stderr=words
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - began
        if process.returncode:
            words.seek(0)
            text = words.read().decode(errors="replace")
            raise RuntimeError(f"a command of the benchmark failed: {' '.join(command)}\n{text}")
    return Took(wall_s, used.ru_utime + used.ru_stime)


def _row(what: str, all_: Sequence[Took], unit: float) -> StartRow:
    wall_s = statistics.median(took.wall_s for took in all_)
    cpu_s = statistics.median(took.cpu_s for took in all_)
    return StartRow(what=what, wall_s=wall_s, cpu_s=cpu_s, units=cpu_s / unit)
