"""A worker's log: its format, and that error messages stay out of it."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from rlm_dist.worker.logging_setup import configure_logs


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_an_event_is_one_line_of_logfmt(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    structlog.get_logger().info("job_parked", job="j1")
    structlog.get_logger().debug("left_out")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "level=info event=job_parked job=j1" in said


def test_an_error_is_told_by_type_and_place_and_never_by_its_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("info")
    try:
        raise ValueError("a secret prompt")
    except ValueError:
        structlog.get_logger().exception("job_crashed", job="j1")
    said = capsys.readouterr().err
    assert "error=ValueError" in said
    assert "test_logging_setup.py:" in said
    assert "secret" not in said


def test_the_loggers_of_each_request_are_quiet() -> None:
    configure_logs("info")
    assert logging.getLogger("httpx2").level == logging.WARNING
