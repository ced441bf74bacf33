"""The program of a process that runs one job: ``python -P -m rlm_dist.root_worker.alone JOB TASK PIPE``.

It is started by a root worker (see ``own_process``) and has the settings of its environment. It writes what
it measures to the file descriptor ``PIPE``. SIGTERM parks the job.
"""

import signal
import sys
import threading
from contextlib import closing

from rlm_dist.broker.app import make_app
from rlm_dist.local.lifeline import watch_lifeline
from rlm_dist.root_worker.worker import RootWorker
from rlm_dist.schema import Role
from rlm_dist.settings import load_settings
from rlm_dist.worker.logging_setup import configure_logs
from rlm_dist.worker.metrics_pipe import PipedMetrics
from rlm_dist.worker.startup import keep_private


def main(job_id: str, task_id: str, pipe: int) -> None:
    """Run the job until it ends or is parked."""
    metrics = PipedMetrics(pipe)
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format, role=Role.ROOT.value)
    keep_private()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the worker, which stops us
    watch_lifeline()
    with (
        make_app(settings) as app,
        closing(RootWorker(app, settings, jobs=0, stopping=stopping.is_set, metrics=metrics)) as worker,
    ):
        worker.run(job_id, task_id)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
