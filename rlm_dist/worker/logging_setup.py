"""The log of a worker: one line an event in logfmt, on stderr, with no text of a user.

An unexpected error is logged by its type and the places it came through. Its message is left out: a library's
message may quote the value that it stumbled over, and that may be a prompt.
"""

import logging
import sys
import traceback
from typing import Any

import structlog
from structlog.types import EventDict

# They log each request; what matters of a call is in the trace.
_LOUD = ("httpx", "httpx2", "openai")


def configure_logs(level: str) -> None:
    """Set up the logs of this process; ``level`` is one of logging's names in lower case."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _places,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)


def _places(_: Any, __: str, event: EventDict) -> EventDict:
    """Put the type of the error under way, and file:line of its frames, in place of ``exc_info``."""
    if event.pop("exc_info", False):
        kind, _error, trace = sys.exc_info()
        frames = traceback.extract_tb(trace)
        event["error"] = kind.__name__ if kind else "unknown"
        event["at"] = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    return event
