"""The span of a submission, sent by the program that submits."""

import logging
import sys
from pathlib import Path

import pytest

from rlm_dist.client.client import Client
from rlm_dist.otel.spans import job_span, trace_id_of
from rlm_dist.settings import Settings
from tests.support.otlp_receiver import otlp_receiver


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, home=tmp_path / "home")


def test_each_job_of_a_batch_has_one_in_its_own_trace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_receiver() as receiver:
        for name, value in receiver.variables.items():
            monkeypatch.setenv(name, value)
        with Client(settings) as client:
            items = [{"id": f"q{n}", "query": "secret query", "context": "secret"} for n in range(3)]
            jobs = [job.id for job in client.submit_batch(items, "nightly").jobs()]
        spans = receiver.spans
        assert {span.trace for span in spans} == {f"{trace_id_of(job):032x}" for job in jobs}
        assert {span.parent for span in spans} == {f"{job_span(job):016x}" for job in jobs}
        assert {span.attributes["rlm.job_id"] for span in spans} == set(jobs)
        assert {span.attributes["rlm.batch_id"] for span in spans} == {"nightly"}
        assert [span.name for span in spans] == ["submit"] * 3
        assert "secret" not in receiver.text()


def test_a_program_that_submits_is_told_once_that_the_extra_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that only looks is not."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "rlm_dist.otel.exporter", None)
    with Client(settings) as client, caplog.at_level(logging.WARNING):
        assert not caplog.messages
        for _ in range(2):
            client.submit("a", "How many?")
    assert ["pip install 'rlm-dist[otel]'" in message for message in caplog.messages] == [True]
