"""A job that an earlier version has begun is ended by this one; see ``stored_job`` on how the files are made."""

from pathlib import Path

import pytest

from rlm_dist.events import CellRan, Marked, RootReplied
from rlm_dist.models import JobState, Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.acceptance.conftest import MakeBench
from tests.acceptance.stored_job import ANSWER, FOLDER, load, root

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("stored", sorted(FOLDER.iterdir()), ids=lambda path: str(path.stem))
def test_a_journal_of_an_earlier_version_replays(make_bench: MakeBench, stored: Path) -> None:
    """What the journal and the store have is asked of no model again: one root call is left to be made."""
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
