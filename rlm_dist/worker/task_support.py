"""What both Celery tasks need: loading before the fork, and errors without values."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from pydantic import TypeAdapter

from rlm_dist.errors import RLMError
from rlm_dist.llm.connection import preload

log = structlog.get_logger()

_ID = TypeAdapter(str)
_IDS = TypeAdapter(list[str])


def _load_and_freeze(**_: object) -> None:
    """Load what would be loaded later, and have the garbage collector pass over all that is there by now."""
    preload()
    gc.collect()
    gc.freeze()


@contextmanager
def _no_values_in_errors() -> Iterator[None]:
    """Celery logs what a task raises, and Flower shows it: the type of an error will do for both."""
    try:
        yield
    except Exception as error:
        log.exception("task_failed")
        raise RLMError(f"the task failed: {type(error).__name__}") from None
