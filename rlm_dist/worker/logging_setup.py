"""The log of a worker: one line per event in logfmt, on stderr, without any text of a user.

An unexpected error is logged by its type and the file and line of its frames. Its message is left out: a
library's message may quote the value that caused the error, and that may be a prompt.
"""

import logging
import sys
import traceback
from typing import Any

import structlog
from structlog.types import EventDict

# These log each request; the trace has what matters about a call.
_NOISY = ("httpx", "httpx2", "openai")


def configure_logs(level: str) -> None:
    """Set up the logs of this process; ``level`` is one of logging's names in lower case."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _error_location,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _error_location(_: Any, __: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by the type of the current error and file:line of its frames."""
    if event.pop("exc_info", False):
        kind, _error, trace = sys.exc_info()
        frames = traceback.extract_tb(trace)
        event["error"] = kind.__name__ if kind else "unknown"
        event["at"] = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    return event
