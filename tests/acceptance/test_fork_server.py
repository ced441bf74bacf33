"""The jobs of a root worker share one fork-server; if it is killed, the next one starts another."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from rlm_dist.schema import JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.sandboxes import descends, exists
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

RESULT_S = 150.0


def is_fork_server(pid: int) -> bool:
    """Whether this process is a fork-server or was forked from one."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        program, _, rest = Path(f"/proc/{pid}/cmdline").read_text().partition("\0")
        return "python" in program and "fork_server.py" in rest
    return False


def below(worker: int) -> tuple[list[int], list[int]]:
    """The fork-servers of a worker and the processes that they forked."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    found = [pid for pid in pids if is_fork_server(pid) and descends(pid, worker)]
    forks = [pid for pid in found if any(descends(pid, other) for other in found)]
    return [pid for pid in found if pid not in forks], forks


def test_jobs_at_once_share_one_and_the_next_one_starts_another(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        worker = bench.start(Role.ROOT, concurrency=2)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        (server,), _ = below(worker.process.pid)
        lines = "Who is number 1?\nWhere is number 2?"
        jobs = [bench.client.submit(f"{lines}\n{n}", "Label the first 2 lines.") for n in range(2)]
        wait_until(lambda: endpoint.served.in_flight == 4)
        assert below(worker.process.pid)[0] == [server]
        assert len(below(worker.process.pid)[1]) >= 2
        endpoint.release()
        assert [job.result(RESULT_S).state for job in jobs] == [JobState.SUCCEEDED] * 2

        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not exists(server))
        job = bench.client.submit(lines, "Label the first 2 lines.")
        assert job.result(RESULT_S).answer_json == {"human being": 1, "location": 1}
        (own,), forks = below(worker.process.pid)

        worker.terminate()
        wait_until(lambda: not any(map(exists, [own, *forks])))


def test_it_ends_with_its_worker(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        workers = [bench.start(Role.ROOT, concurrency=1) for _ in range(2)]
        bench.wait_ready()
        servers = [below(worker.process.pid)[0][0] for worker in workers]
        workers[0].terminate()
        workers[1].kill()
        wait_until(lambda: not any(map(exists, servers)))
