"""A worker's log: two formats, for our lines and those of others, and that error messages stay out of it."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from rlm_dist.worker.logging_setup import LogFormat, configure_logs

FORMATS: tuple[LogFormat, ...] = ("console", "json")


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for name in ("rlm_dist", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_an_event_is_one_line_of_logfmt(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    structlog.get_logger().info("job_parked", job="j1")
    structlog.get_logger().debug("left_out")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "level=info event=job_parked job=j1" in said


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json", role="root")
    structlog.get_logger().info("job_parked", job="j\n1\u202e")
    structlog.get_logger().debug("left_out")
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "level": "info", "event": "job_parked", "job": "j\n1\u202e", "role": "root", "pid": os.getpid(),
    }  # fmt: skip


@pytest.mark.parametrize("log_format", FORMATS)
def test_the_lines_of_others_have_the_same_form(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    configure_logs("info", log_format, role="sub")
    logging.getLogger("celery.worker").warning("it is\nof %s lines \x1b[31m", "two")
    logging.getLogger("celery.worker").debug("left out")
    (line,) = capsys.readouterr().err.splitlines()
    if log_format == "json":
        event = json.loads(line)
        assert (event["event"], event["logger"]) == ("it is\nof two lines \x1b[31m", "celery.worker")
        assert (event["level"], event["role"], event["pid"]) == ("warning", "sub", os.getpid())
    else:
        assert 'level=warning event="it is\\\\nof two lines \\\\x1b[31m"' in line
        assert f"role=sub pid={os.getpid()}" in line
        assert "\x1b" not in line


@pytest.mark.parametrize("log_format", FORMATS)
def test_the_ids_that_are_bound_are_in_the_lines_of_all(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    configure_logs("info", log_format)
    structlog.contextvars.bind_contextvars(job="j1", batch="b1")
    structlog.get_logger().info("mine")
    logging.getLogger("other").info("another's")
    for line in capsys.readouterr().err.splitlines():
        assert "j1" in line
        assert "b1" in line


@pytest.mark.parametrize("log_format", FORMATS)
def test_an_error_is_told_by_type_and_place_and_never_by_its_message(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    configure_logs("info", log_format)
    try:
        raise ValueError("a secret prompt")
    except ValueError:
        structlog.get_logger().exception("job_crashed", job="j1")
        logging.getLogger("celery").exception("crashed")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "ValueError" in line
        assert "test_logging_setup.py:" in line
        assert "secret" not in line


def test_a_warning_of_python_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    logging.getLogger("py.warnings").warning("%s", "old.py:1: DeprecationWarning: old\n  old()\n")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["logger"] == "py.warnings"


def test_the_lines_of_each_task_are_shown_at_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("celery.worker.strategy", "celery.app.trace")
    for level in ("info", "debug"):
        configure_logs(level)
        for name in names:
            logging.getLogger(name).info("Task %s", level)
            logging.getLogger(name).error("Task failed at %s", level)
    said = capsys.readouterr().err
    assert said.count("Task info") == 0
    assert said.count("Task debug") == said.count("Task failed at info") == 2


def test_the_level_of_others_may_differ(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", others=logging.ERROR)
    logging.getLogger("celery").warning("left_out")
    structlog.get_logger().info("shown")
    said = capsys.readouterr().err
    assert "shown" in said
    assert "left_out" not in said


def test_a_log_file_gets_all_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    configure_logs("info", logfile=str(tmp_path / "log"))
    structlog.get_logger().info("mine")
    logging.getLogger("celery").info("theirs")
    assert [line.split("event=")[1].split()[0] for line in (tmp_path / "log").read_text().splitlines()] == [
        *("mine", "theirs")
    ]
    assert capsys.readouterr().err == ""


def test_the_loggers_of_each_request_are_quiet() -> None:
    configure_logs("info")
    assert logging.getLogger("httpx2").level == logging.WARNING
