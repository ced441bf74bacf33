"""A job's spec takes its options from its line, its batch and the settings, in this order."""

from pathlib import Path

import pytest

from rlm_dist.client.batch_item import read_item
from rlm_dist.client.job_specs import JobSpecFactory, options_of
from rlm_dist.client.options import JobOptions
from rlm_dist.contexts.encoding import encode
from rlm_dist.errors import InputError
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


def tiers(spec: JobSpec) -> tuple[str | None, str | None]:
    """The tiers of a job's root calls and sub-calls."""
    return spec.root_parameters.tier, spec.sub_parameters.tier


def test_a_tier_is_for_both_roles_unless_the_sub_role_has_its_own() -> None:
    maker = JobSpecFactory(Settings())
    assert tiers(made(maker)) == (None, None)
    assert tiers(made(maker, tier="flex")) == ("flex", "flex")
    assert tiers(made(maker, sub_tier="flex")) == (None, "flex")
    assert tiers(made(maker, tier="priority", sub_tier="default")) == ("priority", "default")


@pytest.mark.parametrize("bad", ["scale", "", 3])
def test_a_tier_that_there_is_not_is_refused_by_name(bad: object) -> None:
    for name in ("tier", "sub_tier"):
        with pytest.raises(InputError, match=rf"^{name}: "):
            made(JobSpecFactory(Settings()), **{name: bad})


def test_code_may_name_no_other_models_unless_the_user_lists_them() -> None:
    maker = JobSpecFactory(Settings())
    assert made(maker).sub_models == ()
    assert made(maker, sub_models=["b", "a:7b"]).sub_models == ("b", "a:7b")
    for bad in ("b", [""], [3], {"b": 1}):
        with pytest.raises(InputError, match=r"^sub_models"):
            made(maker, sub_models=bad)


def test_a_lines_own_models_take_the_place_of_those_of_its_batch() -> None:
    maker = JobSpecFactory(Settings())
    item = read_item({"id": "a", "query": "q", "context": "c", "sub_models": []}, Path())
    options = item.options.over(JobOptions(sub_models=("dear",)))
    assert maker.make(item, options, encode("c").ref, job_id="j").sub_models == ()


def test_a_job_keeps_its_own_extra_body_beside_an_equal_one() -> None:
    """In Python 1 equals True; to an endpoint they differ."""
    maker = JobSpecFactory(Settings())
    bodies = [made(maker, extra_body={"flag": flag}).root_parameters.extra_body for flag in (True, 1)]
    assert [repr(body) for body in bodies] == ["{'flag': True}", "{'flag': 1}"]


def test_a_job_has_the_tools_that_it_names_and_none_that_a_setting_names() -> None:
    maker = JobSpecFactory(Settings(tools="shop:price"))
    assert made(maker).tools == ()
    assert "tools" not in made(maker).model_dump_json()
    assert made(maker, tools=["price", "files:*"]).tools == ("price", "files:*")
    assert options_of(Settings(tools="shop:price")).tools is None
    for bad in ("price", [""], ["x"] * 65):
        with pytest.raises(InputError, match=r"^tools"):
            made(maker, tools=bad)
