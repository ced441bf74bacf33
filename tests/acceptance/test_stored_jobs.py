"""This version finishes a job that an earlier one began; ``stored_job`` explains how the files are made."""

from pathlib import Path

import pytest

from rlm_dist.schema import JobState, Role
from rlm_dist.schema.events import REPLAY_DIVERGED, CellRan, Marked, RootReplied
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.stored_job import ANSWER, CONTEXT, FOLDER, load, root

pytestmark = pytest.mark.acceptance

JOB = "jac9b29ec571a4f8ba993"  # the name in the file of 0.1.0


@pytest.mark.parametrize("stored", sorted(FOLDER.iterdir()), ids=lambda path: str(path.stem))
def test_a_journal_of_an_earlier_version_replays(make_bench: MakeBench, stored: Path) -> None:
    """Nothing in the journal or the store is asked of a model again: one root call is left to make."""
    with SimulatedEndpoint(root=root) as endpoint:
        bench = make_bench(endpoint)
        job = bench.client.job(load(bench.client, stored))
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=4)
        bench.wait_ready()
        result = job.result(150)
        assert (result.state, result.answer_json, result.iterations) == (JobState.SUCCEEDED, ANSWER, 3)
        assert endpoint.served.requests == 1
        events = list(job.events())
        assert [event.replayed for event in events if isinstance(event, RootReplied)][-3:] == [
            True,
            True,
            False,
        ]
        assert [event.replayed for event in events if isinstance(event, CellRan)][-4:] == [
            True,
            True,
            True,
            False,
        ]
        assert [event for event in events if isinstance(event, Marked)] == []
        assert (result.costs.root_llm_calls, result.costs.sub_llm_calls) == (3, 4)


def test_a_cell_that_comes_out_otherwise_is_told_or_ends_the_job(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    """The journal has another output for the first cell: the job's policy decides what follows."""
    text = (FOLDER / "0.1.0.json").read_text().replace(f"{len(CONTEXT)} 0.8444", f"{len(CONTEXT)} 0.9999")
    text = text.replace('"max_sub_calls": "5"', '"max_sub_calls": "9"')  # under another id it asks again
    with SimulatedEndpoint(root=root) as endpoint:
        bench = make_bench(endpoint)
        jobs = {}
        for policy in ("warn", "fail"):
            spec = f'\\"on_divergence\\": \\"{policy}\\", \\"limits\\": {{'
            stored = tmp_path / "stored.json"
            stored.write_text(text.replace(JOB, policy).replace('\\"limits\\": {', spec))
            jobs[policy] = bench.client.job(load(bench.client, stored))
        bench.start(Role.ROOT, concurrency=2)
        bench.start(Role.SUB, concurrency=4)
        bench.wait_ready()
        warned, failed = (jobs[policy].result(150) for policy in ("warn", "fail"))
        assert (warned.state, warned.answer_json) == (JobState.SUCCEEDED, ANSWER)
        assert (failed.state, failed.costs.root_llm_calls) == (JobState.FAILED, 2)
        assert failed.error is not None
        assert failed.error.type == REPLAY_DIVERGED
        for policy, job in jobs.items():
            marks = [event.kind for event in job.events() if isinstance(event, Marked)]
            assert marks == [REPLAY_DIVERGED]
            assert bench.client.store.jobs.get(policy).diverged_cells == 1
            assert bench.client.store.journals.read(policy)
