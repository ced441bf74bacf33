"""A loop of single ``llm_query`` calls through real workers: they are in flight together, and paid once."""

import pytest

from rlm_dist.bench.dictated import query
from rlm_dist.bench.endpoint import reply
from rlm_dist.schema import JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import MakeBench, job_id_of, submit
from tests.support.deaths import Deaths
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

RESULT_S = 150.0
CODE = """\
notes = []
for n in range({pieces}):
    notes.append(llm_query(f"Part {{n}} of {{context}}"))
FINAL([len(notes), len(set(notes)), all(isinstance(note, str) for note in notes)])
"""


def test_32_pieces_are_in_flight_together(make_bench: MakeBench) -> None:
    """Nothing is answered before more than half of them are."""
    with SimulatedEndpoint(root=reply, faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=64)
        bench.wait_ready()
        job = bench.client.submit("a text", query(CODE.format(pieces=32)))
        wait_until(lambda: endpoint.served.in_flight > 16, timeout_s=60)
        endpoint.release()
        result = job.result(RESULT_S)
        assert (result.state, result.answer_json) == (JobState.SUCCEEDED, [32, 32, True])
        assert result.costs.sub_llm_calls == endpoint.served.by_role["sub"] == 32


@pytest.mark.parametrize("point", ["calls.opened:2", "calls.answered:1", "calls.answered:2"])
def test_a_root_worker_that_is_killed_in_the_loop_asks_nothing_twice(
    make_bench: MakeBench, point: str
) -> None:
    """In its first window, between the two, and after the second; another one replays the cell."""
    with SimulatedEndpoint(root=reply) as endpoint:
        bench = make_bench(endpoint)
        deaths = Deaths(bench.folder / "deaths")
        job_id = job_id_of("killed")
        deaths.plan(job_id, point)
        bench.keep_alive(bench.start(Role.ROOT, concurrency=2, **deaths.environment))
        bench.start(Role.SUB, concurrency=16)
        bench.wait_ready()
        submit(bench.client, "killed", "a text", query(CODE.format(pieces=50)))
        result = bench.client.job(job_id).result(RESULT_S)
        assert (result.state, result.answer_json) == (JobState.SUCCEEDED, [50, 50, True])
        assert not deaths.outstanding(job_id)
        assert result.costs.sub_llm_calls == endpoint.served.by_role["sub"] == 50
