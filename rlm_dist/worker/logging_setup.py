"""The log of a worker, ours and Celery's: one line per event on stderr, without any text of a user.

Each line is logfmt (``console``) or a JSON object (``json``), and has the worker's role and the process's id.
An unexpected error is logged by its type and the file and line of its frames. Its message is left out: a
library's message may quote the value that caused the error, and that may be a prompt.
"""

import logging
import logging.handlers
import os
import sys
import traceback
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

from rlm_dist.one_line import one_line

LogFormat = Literal["console", "json"]
# These log each request; the trace has what matters about a call.
_NOISY = ("httpcore", "httpx", "httpx2", "openai")
# These log each task twice; a job has lines of ours, and a sub-call has none at info.
_TASKS = ("celery.worker.strategy", "celery.app.trace")
_FIRST = ["timestamp", "level", "event"]


def configure_logs(
    level: str,
    log_format: LogFormat = "console",
    *,
    role: str = "",
    others: int | None = None,
    logfile: str | None = None,
) -> None:
    """Set up the logs of this process; ``level`` is one of logging's names in lower case.

    ``others`` is the level of what is not ours, by default the same; with ``logfile``, all lines go there.
    """
    ours = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _origin(role),
        _error_location,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(ours),
        logger_factory=lambda *_: logging.getLogger("rlm_dist"),
    )
    handler = logging.handlers.WatchedFileHandler(logfile) if logfile else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format, shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(ours if others is None else others)
    logging.getLogger("rlm_dist").setLevel(ours)
    logging.captureWarnings(True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _TASKS:
        logging.getLogger(name).setLevel(logging.NOTSET if root.level <= logging.DEBUG else logging.WARNING)


def _formatter(log_format: LogFormat, shared: list[Processor]) -> logging.Formatter:
    renderer: list[Processor] = (
        [structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [_plain, structlog.processors.LogfmtRenderer(key_order=_FIRST)]
    )
    return structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
    )


def _origin(role: str) -> Processor:
    def add(_: Any, __: str, event: EventDict) -> EventDict:
        return {**event, "role": role, "pid": os.getpid()}

    return add


def _plain(_: Any, __: str, event: EventDict) -> EventDict:
    """Escape what would end a line or control a terminal."""
    return {name: one_line(value) if isinstance(value, str) else value for name, value in event.items()}


def _error_location(_: Any, __: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by the type of the error and file:line of its frames."""
    exc_info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if exc_info:
        kind, _error, trace = exc_info if isinstance(exc_info, tuple) else sys.exc_info()
        frames = traceback.extract_tb(trace)
        event["error"] = kind.__name__ if kind else "unknown"
        event["at"] = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    return event
