"""Worker processes that this process starts, keeps alive and ends when it ends itself.

Each worker runs in its own session: a terminal's Ctrl-C reaches only us, and we let the workers finish. Each
holds our lifeline (see ``lifeline``), so that it ends even if we are killed. A worker's output goes to
``<log_dir>/<name>.log``, which is moved aside as ``.log.1`` when it grows over 5 MiB.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rlm_dist.errors import Unreachable
from rlm_dist.local.child_python import worker_environment
from rlm_dist.local.folders import own_file, own_folder
from rlm_dist.local.lifeline import Lifeline

_MAX_LOG_BYTES = 5 << 20
_WATCH_S = 0.2
_POLL_S = 0.05
_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 30.0
_STEADY_S = 60
_GRACE_S = 10.0


class _Child:
    """One process that is started again whenever it dies."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, own_variables: Mapping[str, str]) -> None:
        self.name = name
        self.own_variables = own_variables
        self.log = log
        self.deaths = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None
        self._argv = list(argv)
        self._start_time = 0.0
        self._backoff_s = _FIRST_BACKOFF_S
        self._next_start = 0.0

    def start(self, environment: Mapping[str, str], descriptor: int, folder: Path) -> None:
        """Start the process in a folder; its output is appended to the log."""
        self._start_time = time.monotonic()
        with own_file(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
                pass_fds=(descriptor,),
                start_new_session=True,
            )

    def tend(self) -> bool:
        """Record a death and bound the log; return whether the process is due to be started again."""
        if self.process is not None:
            if self.died():
                self.deaths += 1
                lived_s = time.monotonic() - self._start_time
                self._backoff_s = (
                    _FIRST_BACKOFF_S if lived_s > _STEADY_S else min(self._backoff_s * 2, _MAX_BACKOFF_S)
                )
                self._next_start = time.monotonic() + self._backoff_s
                self.process = None
            _bound(self.log)
        return self.process is None and time.monotonic() >= self._next_start

    def died(self) -> bool:
        """Whether the process has ended; if so, kill the rest of its group before its id can be reused."""
        assert self.process is not None
        if self.process.returncode is None:
            if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            self.signal(signal.SIGKILL)
            self.exit_code = self.process.wait()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; SIGKILL goes to its whole group."""
        if self.process is None or self.process.returncode is not None:
            return
        send = os.killpg if number is signal.SIGKILL else os.kill
        with suppress(ProcessLookupError):
            send(self.process.pid, number)


class Cluster:
    """Worker processes by name; a context manager that starts and stops them.

    Args:
        commands: the command line of each, by a name that also names its log.
        environment: variables for the workers, which override those of this process.
        own: further variables of single ones, by name.
        folder: the current folder of the workers; their logs go to ``logs`` in it.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        environment: Mapping[str, str],
        folder: Path,
        own: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._folder = folder
        self._log_dir = folder / "logs"
        self._workers = [
            _Child(name, argv, self._log_dir / f"{name}.log", (own or {}).get(name, {}))
            for name, argv in commands.items()
        ]
        self._variables = dict(environment)
        self._lifeline: Lifeline | None = None
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="cluster")

    def start(self) -> None:
        """Start every worker, and a thread that restarts those that die."""
        own_folder(self._folder)
        own_folder(self._log_dir)
        self._lifeline = Lifeline()
        for worker in self._workers:
            _bound(worker.log)
            self._launch(worker)
        self._watcher.start()

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Call ``ready`` again and again, and return once it is true.

        Raises:
            Unreachable: if a worker dies first, or if time is up; the error has the end of the log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            for worker in self._workers:
                if worker.deaths:
                    raise _unready(worker, f"it died while it started ({_status(worker.exit_code)})")
            if time.monotonic() > deadline:
                raise _unready(self._workers[0], f"not ready after {timeout_s:g} s")
            time.sleep(_POLL_S)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the workers that are alive, by name."""
        return {w.name: w.process.pid for w in self._workers if w.process is not None}

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """End every worker: ask it to finish, wait up to ``grace_s`` for all of them, and kill the rest."""
        self._stopping.set()
        if self._lifeline is None:
            return
        try:
            self._watcher.join()
            running = [worker for worker in self._workers if worker.process is not None]
            for worker in running:
                worker.signal(signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while time.monotonic() < deadline and not all([worker.died() for worker in running]):
                time.sleep(_POLL_S)
        finally:  # even if a second Ctrl-C cuts the wait short
            for worker in self._workers:
                worker.signal(signal.SIGKILL)
                if worker.process is not None:
                    worker.process.wait()
            self._lifeline.close()
            self._lifeline = None

    def __enter__(self) -> "Cluster":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, worker: _Child) -> None:
        assert self._lifeline is not None
        variables = {**self._variables, **worker.own_variables}
        environment = worker_environment(variables) | self._lifeline.variables
        worker.start(environment, self._lifeline.descriptor, self._folder)

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_S):
            for worker in self._workers:
                if worker.tend():
                    self._launch(worker)


def _bound(log: Path) -> None:
    """Copy a long log aside and empty it; the file itself stays, as a process appends to it."""
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        return f"by signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _unready(worker: _Child, detail: str) -> Unreachable:
    lines = worker.log.read_text(errors="replace").strip().splitlines()[-5:] if worker.log.exists() else []
    hint = "\n".join(["The end of its log:", *lines]) if lines else ""
    return Unreachable(f"worker {worker.name}", str(worker.log), detail, hint)
