"""``rlm-dist bench files``: large batch files in, their results out, each by the command that a user types.

No worker runs: jobs are enqueued and cancelled. The commands run in separate processes, over an embedded
server, so that the peak of a process's memory is that of one command.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from rlm_dist.errors import RLMError
from rlm_dist.local.child_python import import_variables, module_command
from rlm_dist.local.redis.server import server
from rlm_dist.schema import Wire

_CONTEXTS = 1000  # different ones in the file of many lines
_LINE_BYTES = 8_000_000  # of the large file
_GB = 1_000_000_000
_POLL_S = 0.02
_FILL = "The grass is green and the sky over the hills is wide and blue today, said number {}. "


class FileRow(Wire):
    """One command: its wall time and CPU time in seconds, its peak memory, and its outcome."""

    what: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    told: dict[str, float]


def measure(folder: Path, *, lines: int, gigabytes: float) -> Iterator[FileRow]:
    """Measure in ``folder``, which takes the large file and the stored contexts."""
    many, large = folder / "many.jsonl", folder / "large.jsonl"
    with many.open("w") as file:
        file.writelines(_line(n, _FILL.format(n % _CONTEXTS) * 3) for n in range(lines))
    large_lines = max(1, round(gigabytes * _GB / _LINE_BYTES))
    with large.open("w") as file:
        for n in range(large_lines):
            text = _FILL.format(n)
            file.write(_line(n, text * (_LINE_BYTES // len(text))))
    with server(folder / "home") as url:
        commands = _Commands(folder / "home", url)
        yield commands.run("many lines, contexts new", ["submit", many, "--batch-id", "first"], lines)
        yield commands.run("many lines, contexts stored", ["submit", many, "--batch-id", "second"], lines)
        yield commands.run("the same batch again: attaches", ["submit", many, "--batch-id", "second"], lines)
        yield commands.run("cancel", ["cancel", "second"], lines)
        results: list[str | Path] = ["results", "second", "-o", folder / "out.jsonl"]
        yield commands.run("results of all", results, lines)
        gb = large.stat().st_size / _GB
        yield commands.run(f"a file of {gb:.2g} GB", ["submit", large, "--batch-id", "large"], large_lines)


class _Commands:
    def __init__(self, home: Path, url: str) -> None:
        self._redis = redis.Redis.from_url(url, decode_responses=True)
        self._env = {**os.environ, **import_variables(), "RLM_REDIS_URL": url, "RLM_HOME": str(home)}
        self._env["RLM_BLOB_URL"] = str(home / "blobs")

    def run(self, what: str, arguments: list[str | Path], jobs: int) -> FileRow:
        """Run one command to its end."""
        before = self._told()
        began = time.monotonic()
        process = subprocess.Popen(
            module_command("rlm_dist", *map(str, arguments)), env=self._env, stdout=subprocess.DEVNULL
        )
        peak_mb, used = 0.0, None
        while used is None:
            peak_mb = max(peak_mb, _peak_mb(process.pid))
            time.sleep(_POLL_S)
            pid, status, rusage = os.wait4(process.pid, os.WNOHANG)
            used = rusage if pid else None
        wall_s = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RLMError(f"{what}: the command failed with code {process.returncode}")
        after = self._told()
        return FileRow(
            what=what,
            wall_s=wall_s,
            cpu_s=used.ru_utime + used.ru_stime,
            peak_mb=peak_mb,
            told={
                "jobs": jobs,
                "jobs_per_s": jobs / wall_s,
                "new_jobs": after["jobs"] - before["jobs"],
                "redis_reads": after["reads"] - before["reads"],
                "redis_mb": after["mb"],
            },
        )

    def _told(self) -> dict[str, float]:
        info: Any = self._redis.info("everything")
        jobs: Any = self._redis.zcard("rlm:jobs")
        return {"jobs": jobs, "reads": info["total_reads_processed"], "mb": info["used_memory"] / 1e6}


def table_rows(rows: list[FileRow]) -> Iterator[list[str]]:
    """The rows as cells of a table, its head first."""
    yield ["WHAT", "JOBS", "NEW", "WALL", "JOBS/S", "CPU", "PEAK", "REDIS READS", "REDIS"]
    for row in rows:
        told = row.told
        yield [
            row.what, f"{told['jobs']:,.0f}", f"{told['new_jobs']:,.0f}", f"{row.wall_s:.1f} s",
            f"{told['jobs_per_s']:,.0f}", f"{row.cpu_s:.1f} s", f"{row.peak_mb:,.0f} MB",
            f"{told['redis_reads']:,.0f}", f"{told['redis_mb']:,.0f} MB",
        ]  # fmt: skip


def _peak_mb(pid: int) -> float:
    """The peak memory of a process so far; its own usage report would include its parent's."""
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024 / 1e6


def _line(number: int, context: str) -> str:
    return json.dumps({"id": f"q{number}", "query": f"Who is number {number}?", "context": context}) + "\n"
