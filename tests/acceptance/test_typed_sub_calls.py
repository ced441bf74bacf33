"""The example in docs/typed-answers.md runs as the code of a job, on real workers."""

import re
from collections.abc import Sequence

import pytest

from rlm_dist.schema import Message, Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.environment import PROJECT

pytestmark = pytest.mark.acceptance

SECTION = (PROJECT / "docs/typed-answers.md").read_text().partition("## Sub-calls")[2].partition("\n## ")[0]


def root(_: Sequence[Message]) -> str:
    """A root model that writes the example and hands in what it found."""
    (program,) = re.findall(r"```python\n(.*?)```", SECTION, re.S)
    return f"```repl\n{program}FINAL(found)\n```"


def test_the_example_of_the_page_runs(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(root=root, schemas=False) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        job = bench.client.submit("a context", "Label the lines.")
        assert job.result(timeout=120).answer_json == ["human being", "location"]
        assert job.cost().sub_llm_calls == 3
        assert endpoint.served.faults.get("no_schemas", 0) >= 1
