"""The prompt of a job that can have children names them, after the part that is the same for all jobs."""

import pytest

from rlm_dist.engine import prompts
from rlm_dist.schema import JobLimits, JobSpec
from tests.support.fake_repl import spec


def system(max_depth: int, depth: int, family: str) -> str:
    """The system prompt of a job."""
    job: JobSpec = spec(limits=JobLimits(max_depth=max_depth), depth=depth, prompts=family)
    return prompts.opening(job)[0].content


@pytest.mark.parametrize("family", ["coder", "frugal", "small"])
def test_the_paragraph_on_children_comes_after_the_fixed_part(family: str) -> None:
    plain = system(1, 0, family)
    assert "REPL of its own" not in plain
    assert [system(*depths, family) for depths in ((0, 0), (2, 1), (3, 2))] == [plain] * 3
    prompt_of_parent = system(2, 0, family)
    assert prompt_of_parent.startswith(plain)
    assert "`rlm_query_batched(prompts, contexts)`" in prompt_of_parent
    assert system(3, 1, family) == system(3, 0, family) == prompt_of_parent
