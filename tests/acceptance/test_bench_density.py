"""The benchmark of density measures a real root worker, here with too few jobs for meaningful figures."""

from pathlib import Path

import pytest

from rlm_dist.bench.density import of_root_worker

JOBS = 3


@pytest.mark.acceptance
def test_the_jobs_of_a_root_worker_are_live_when_its_memory_is_read(tmp_path: Path) -> None:
    """Each has its REPL then; the whole cluster holds more than its root worker; every answer is right."""
    root, whole = of_root_worker(tmp_path, JOBS)
    assert [row.right for row in (root, whole)] == [2 * JOBS] * 2
    assert len(root.first_s) == JOBS
    assert root.processes >= root.idle_processes + JOBS
    assert whole.live_mb > root.live_mb > root.idle_mb
    assert (whole.processes, whole.idle_processes) > (root.processes, root.idle_processes)
    assert whole.cpu_ms >= root.cpu_ms > 0
