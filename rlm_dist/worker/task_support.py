"""What both Celery tasks need: imports done at the start, and errors without values."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from pydantic import TypeAdapter

from rlm_dist.errors import RLMError
from rlm_dist.llm.connection import preload

log = structlog.get_logger()

ID = TypeAdapter(str)
IDS = TypeAdapter(list[str])


def load_and_freeze(**_: object) -> None:
    """Load what would be loaded later, and exempt all objects that exist by now from garbage collection."""
    preload()
    gc.collect()
    gc.freeze()


@contextmanager
def no_values_in_errors() -> Iterator[None]:
    """Replace a task's error by one that names only its type, as Celery logs it and Flower shows it."""
    try:
        yield
    except Exception as error:
        log.exception("task_failed")
        raise RLMError(f"the task failed: {type(error).__name__}") from None
