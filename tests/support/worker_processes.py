"""Real worker processes for tests, started with the command lines that a user would type."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rlm_dist.broker.app import worker_argv
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from tests.support.environment import PROJECT, clean_environment
from tests.support.waiting import wait_until

START_S = 60.0
STOP_S = 60.0


class WorkerProcess:
    """One ``celery -A workers.… worker`` process; its log is kept for assertions and for failures."""

    def __init__(
        self,
        role: Role,
        *,
        env: Mapping[str, str],
        log: Path,
        concurrency: int,
        name: str = "",
        options: Sequence[str] = (),
    ) -> None:
        self.log = log
        self._env = {**clean_environment(), **env}
        self._argv = worker_argv(role, Settings(), concurrency=concurrency, name=name or f"{role}-{log.stem}")
        self._argv += options
        self.process = self._started("wb")

    def _started(self, mode: str) -> "subprocess.Popen[bytes]":
        with self.log.open(mode) as output:
            return subprocess.Popen(
                self._argv,
                env=self._env,
                cwd=PROJECT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_again(self) -> None:
        """Start it again if it was killed, as whoever runs workers does."""
        if self.process.poll() == -signal.SIGKILL:
            self.process = self._started("ab")

    def wait_ready(self) -> Self:
        """Return when the worker accepts tasks."""
        wait_until(self._ready_or_dead, timeout_s=START_S)
        assert self.process.poll() is None, self.text()
        return self

    def text(self) -> str:
        """The worker's log."""
        return self.log.read_text(errors="replace")

    def terminate(self) -> None:
        """Stop it as a rolling deploy would, and wait until it has ended."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_S)

    def kill(self) -> None:
        """Kill it and the processes of its group, as the loss of a machine would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()

    def _ready_or_dead(self) -> bool:
        return " ready." in self.text() or self.process.poll() is not None


def metrics_url(worker: WorkerProcess) -> str:
    """Where the worker says that it serves its metrics."""
    found = re.search(r"event=metrics_served .*address=(\S+) port=(\d+)", worker.text())
    assert found is not None, worker.text()
    return f"http://{found[1]}:{found[2]}"
