"""``rlm-dist flower`` by itself: closed to users without a password and to other hosts."""

import base64
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.operations.metrics.cluster import FAMILIES
from tests.support.command_line import command, next_line
from tests.support.redis_servers import RedisServer, flavours, running
from tests.support.scrapes import scrape
from tests.support.waiting import wait_until


@pytest.fixture
def flower_url(redis_server: RedisServer) -> Iterator[str]:
    variables = {"RLM_REDIS_URL": redis_server.url, "FLOWER_BASIC_AUTH": "ann:secret"}
    with command("flower", "--port", "0", "--json", **variables) as process:
        url: str = json.loads(next_line(process))["url"]
        yield url
    assert process.returncode == 0


def status(url: str, password: str | None) -> int:
    """The HTTP status of a page."""
    request = urllib.request.Request(url)
    if password is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(password.encode()).decode()}")
    try:
        with urllib.request.urlopen(request) as answer:
            code: int = answer.status
            return code
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def cluster_redis(flower: str) -> float | None:
    """Whether the scrape says that Redis could be read."""
    return scrape(flower).value("rlm_redis_up")


def test_one_scrape_has_flowers_metrics_and_the_clusters_without_a_password(flower_url: str) -> None:
    found = scrape(flower_url)
    assert {family.name for family in FAMILIES} <= found.names()
    assert any(name.startswith("flower_") for name in found.names())
    assert found.value("rlm_redis_up") == 1
    assert found.value("rlm_slots", role="root", depth="0") == 0


def test_with_a_prefix_the_metrics_are_below_it(redis_server: RedisServer) -> None:
    variables = {"RLM_REDIS_URL": redis_server.url, "FLOWER_URL_PREFIX": "/mon"}
    with command("flower", "--port", "0", "--json", **variables) as process:
        url: str = json.loads(next_line(process))["url"]
        assert cluster_redis(url) == 1


def test_redis_hangs_and_the_scrape_and_the_pages_do_not(tmp_path: Path) -> None:
    with running(flavours()["valkey"], tmp_path) as server:
        variables = {"RLM_REDIS_URL": server.url}
        with command("flower", "--port", "0", "--json", **variables) as process:
            url: str = json.loads(next_line(process))["url"]
            assert cluster_redis(url) == 1
            server.process.send_signal(signal.SIGSTOP)
            try:
                wait_until(
                    lambda: cluster_redis(url) == 0
                )  # what was read just before may be shown once more
                found = scrape(url)
                assert [name for name in found.names() if name.startswith("rlm_")] == ["rlm_redis_up"]
                assert status(f"{url}/healthcheck", None) == 200
            finally:
                server.process.send_signal(signal.SIGCONT)
            wait_until(lambda: cluster_redis(url) == 1)


def test_pages_and_api_need_the_password(flower_url: str) -> None:
    assert flower_url.startswith("http://127.0.0.1:")
    for page in ("/workers", "/tasks", "/api/tasks"):
        assert status(flower_url + page, None) == 401
        assert status(flower_url + page, "ann:wrong") == 401
        assert status(flower_url + page, "ann:secret") == 200
