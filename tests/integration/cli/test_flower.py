"""``rlm-dist flower`` by itself: closed to users without a password and to other hosts."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.command_line import command, next_line
from tests.support.redis_servers import RedisServer


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


def test_pages_and_api_need_the_password(flower_url: str) -> None:
    assert flower_url.startswith("http://127.0.0.1:")
    for page in ("/workers", "/tasks", "/api/tasks"):
        assert status(flower_url + page, None) == 401
        assert status(flower_url + page, "ann:wrong") == 401
        assert status(flower_url + page, "ann:secret") == 200
