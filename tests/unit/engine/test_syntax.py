"""Source is parsed right by threads at once, as the jobs of a root worker do."""

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rlm_dist.engine.parsing.syntax import expression_of, literal_of, module_of

LINES = 60
CODE = "\n".join(f"x{n} = [f(a + {n}) for a in range({n})]" for n in range(LINES))


def let_others_run(*_: object) -> None:
    """What a finalizer may do that a collection calls."""
    time.sleep(0)


@pytest.fixture
def _collected_in_each_parse() -> Iterator[None]:
    before = gc.get_threshold()
    gc.callbacks.append(let_others_run)
    gc.set_threshold(100)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(let_others_run)


@pytest.mark.usefixtures("_collected_in_each_parse")
def test_threads_that_parse_at_once_get_their_trees() -> None:
    with ThreadPoolExecutor(4) as threads:
        trees = threads.map(module_of, [CODE] * 100)
        assert {len(tree.body) for tree in trees} == {LINES}


def test_a_bad_escape_warns_nobody() -> None:
    module_of(r"x = '\d'")
    expression_of(r"'\d'")
    assert literal_of(r"'\d'") == r"\d"
