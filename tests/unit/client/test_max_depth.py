"""``max_depth``: plain sub-calls (0 and 1), or child jobs down to a depth."""

from pathlib import Path

import pytest

from rlm_dist.client.batch_item import read_item
from rlm_dist.client.options import read_batch_options, read_options


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_depth_is_taken_wherever_it_is_given(depth: int) -> None:
    assert read_options({"max_depth": depth}).limits().max_depth == depth
    assert read_batch_options({"max_depth": depth})[1].max_depth == depth
    line = {"id": "a", "query": "q", "context": "c", "max_depth": depth}
    assert read_item(line, Path()).options.max_depth == depth
