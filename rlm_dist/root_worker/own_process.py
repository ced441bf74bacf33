"""Runs jobs with which workers have died in processes of their own, so that they take no other job along.

If such a job kills its process again, that is the job's doing; if the process lives, the job was innocent.
The program of the process is ``alone``. It ends when its worker does, and parks its job if there is time.
What it measures is counted by the worker.
"""

import subprocess
import sys
import threading
from collections.abc import Callable

import structlog

from rlm_dist.local.child_python import worker_environment
from rlm_dist.local.lifeline import Lifeline
from rlm_dist.worker.metrics import Unmeasured
from rlm_dist.worker.metrics_pipe import MetricsPipe

log = structlog.get_logger()

_PROGRAM = "rlm_dist.root_worker.alone"
_AT_ONCE = 4  # processes of one worker; each takes as much memory as an idle worker
_LOOK_S = 0.5


class OwnProcesses:
    """Runs jobs in processes of their own, and counts what they measure in ``metrics``.

    ``stopping()`` says that this worker stops.
    """

    def __init__(self, stopping: Callable[[], bool], metrics: Unmeasured) -> None:
        self._stopping = stopping
        self._metrics = metrics
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def run(self, job_id: str, task_id: str) -> None:
        """Run a job until it ends, is parked, or its process dies.

        Does nothing if there are too many such processes: the reaper then sends the job's message again.
        """
        if not self._places.acquire(blocking=False):
            log.info("own_process_not_free")
            return
        try:
            log.warning("job_runs_alone")
            self._run(job_id, task_id)
        finally:
            self._places.release()

    def _run(self, job_id: str, task_id: str) -> None:
        with (
            Lifeline() as lifeline,
            MetricsPipe(self._metrics) as pipe,
            subprocess.Popen(
                [sys.executable, "-P", "-m", _PROGRAM, job_id, task_id, str(pipe.descriptor)],
                env=worker_environment({}) | lifeline.variables,
                stdin=subprocess.DEVNULL,
                pass_fds=(lifeline.descriptor, pipe.descriptor),
            ) as process,
        ):
            pipe.follow()
            asked = False
            while process.poll() is None:
                if self._stopping() and not asked:
                    process.terminate()
                    asked = True
                try:
                    process.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
        if process.returncode:
            log.warning("own_process_died", code=process.returncode)
