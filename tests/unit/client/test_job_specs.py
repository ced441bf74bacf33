"""A job's spec takes its options from its line, its batch and the settings, in this order."""

from pathlib import Path

from rlm_dist.client.batch_item import read_item
from rlm_dist.client.job_specs import JobSpecFactory
from rlm_dist.client.options import JobOptions
from rlm_dist.contexts.encoding import encode
from rlm_dist.schema import JobSpec
from rlm_dist.settings import Settings

DEFAULTS = JobOptions(model="big", max_tokens=10)


def made(maker: JobSpecFactory, **own: object) -> JobSpec:
    """The spec of a job with its own options over the defaults."""
    item = read_item({"id": "a", "query": "q", "context": "c", **own}, Path())
    return maker.make(item, item.options.over(DEFAULTS), encode("c").ref, job_id="j")


def test_jobs_in_turns_with_and_without_options_of_their_own_keep_to_them() -> None:
    maker = JobSpecFactory(Settings())
    specs = [made(maker), made(maker, max_tokens=20), made(maker), made(maker, model="small"), made(maker)]
    assert [spec.limits.max_tokens for spec in specs] == [10, 20, 10, 10, 10]
    assert [spec.model for spec in specs] == ["big", "big", "big", "small", "big"]


def test_a_job_keeps_its_own_extra_body_beside_an_equal_one() -> None:
    """In Python 1 equals True; to an endpoint they differ."""
    maker = JobSpecFactory(Settings())
    bodies = [made(maker, extra_body={"flag": flag}).root_parameters.extra_body for flag in (True, 1)]
    assert [repr(body) for body in bodies] == ["{'flag': True}", "{'flag': 1}"]
