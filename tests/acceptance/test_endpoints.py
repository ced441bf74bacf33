"""Several endpoints of one role over real workers: one dies mid-run, and the ledger stays exact."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from rlm_dist.schema import Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

CALLS = 40


def test_another_endpoint_goes_on_when_one_dies(make_bench: MakeBench, tmp_path: Path) -> None:
    with SimulatedEndpoint() as root, SimulatedEndpoint() as well, ExitStack() as life:
        dying = life.enter_context(SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]))
        tables = [f'[[endpoint]]\nurl = "{each.url}"\nroles = ["sub"]\n' for each in (well, dying)]
        (tmp_path / "endpoints.toml").write_text("".join(tables))
        bench = make_bench(root)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=8, RLM_ENDPOINTS=str(tmp_path / "endpoints.toml"))
        bench.wait_ready()
        lines = "\n".join(f"Who is number {n}?" for n in range(CALLS))
        job = bench.client.submit(lines, f"Label the first {CALLS} lines.")
        wait_until(lambda: dying.served.in_flight > 0)
        life.close()
        result = job.result(150)
        assert result.answer_json == {"human being": CALLS}
        assert well.served.by_role["sub"] == CALLS
        costs = result.costs
        assert (costs.sub_llm_calls, costs.failed_calls, costs.duplicate_paid_calls) == (CALLS, 0, 0)
        assert costs.sub_llm_tokens == well.served.usage.total
        # The endpoint counts a call after its answer is out, which may be after the job has ended.
        wait_until(lambda: job.cost().retries > 0)


def test_a_worker_does_not_start_with_a_bad_file(make_bench: MakeBench, tmp_path: Path) -> None:
    (tmp_path / "endpoints.toml").write_text("[[endpoint]]\nweight = 2\n")
    with SimulatedEndpoint() as root:
        worker = make_bench(root).start(
            Role.SUB, concurrency=1, RLM_ENDPOINTS=str(tmp_path / "endpoints.toml")
        )
        assert worker.process.wait(60) == 2
        assert "RLM_ENDPOINTS: endpoint 1: url: Field required" in worker.text()


def test_what_is_written_into_the_file_later_fails_no_job(make_bench: MakeBench, tmp_path: Path) -> None:
    """A file that is being edited would fail the jobs that run; it is for workers that start later."""
    file = tmp_path / "endpoints.toml"
    with SimulatedEndpoint() as endpoint:
        file.write_text(f'[[endpoint]]\nurl = "{endpoint.url}"\n')
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1, RLM_ENDPOINTS=str(file))
        bench.start(Role.SUB, concurrency=1)
        bench.wait_ready()
        file.write_text("[[endpoint]]\nurl = ")
        result = bench.client.submit("Who is number 1?", "Label the first 1 lines.").result(150)
        assert result.answer_json == {"human being": 1}, result.error
