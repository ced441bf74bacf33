"""What stays in memory until Python's collector of cycles comes by, which may be after hundreds of jobs."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def freed_without_collector(*kinds: type) -> Iterator[None]:
    """Fail if objects of these types that are made in this block, and no longer used, are still there."""
    gc.collect()
    before = _count(kinds)
    gc.disable()
    try:
        yield
        left = _count(kinds)
    finally:
        gc.enable()
    # Those of earlier tests may go meanwhile, as their threads end.
    grown = {name: count for name, count in left.items() if count > before[name]}
    assert not grown, "objects that refer to each other keep each other in memory"


def _count(kinds: tuple[type, ...]) -> dict[str, int]:
    found = [type(each) for each in gc.get_objects()]
    return {kind.__name__: found.count(kind) for kind in kinds}
