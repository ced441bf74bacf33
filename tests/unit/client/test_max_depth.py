"""``max_depth``: root calls (0) and their sub-calls (1); recursion below these does not exist yet."""

from pathlib import Path

import pytest

from rlm_dist.client.batch_item import read_item
from rlm_dist.client.options import read_batch_options, read_options
from rlm_dist.errors import InputError

PROBLEM = "max_depth: must be 0 or 1: sub-calls cannot start root loops of their own yet"


@pytest.mark.parametrize("depth", [2, 100])
def test_a_depth_that_does_not_exist_yet_is_refused_wherever_it_is_given(depth: int) -> None:
    line = {"id": "a", "query": "q", "context": "c", "max_depth": depth}
    for read in (
        lambda: read_options({"max_depth": depth}),  # Client.submit
        lambda: read_batch_options({"max_depth": depth}),  # Client.submit_batch
        lambda: read_item(line, Path()),  # a line of a batch
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert caught.value.problems == (PROBLEM,)


@pytest.mark.parametrize("depth", [0, 1])
def test_the_depths_that_exist_are_taken(depth: int) -> None:
    assert read_options({"max_depth": depth}).limits().max_depth == depth
