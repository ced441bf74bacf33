"""Fixtures for a whole chaos module: workers that die at points which a test writes to files."""

from collections.abc import Iterator

import pytest

from tests.support.deaths import Deaths
from tests.support.redis_servers import RedisServer, flavours, running


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Deaths:
    """A folder in which no death is planned yet."""
    return Deaths(tmp_path_factory.mktemp("chaos") / "deaths")


@pytest.fixture(scope="module")
def chaos_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A separate server for the module."""
    with running(flavours()["valkey"], tmp_path_factory.mktemp("chaos-redis")) as server:
        yield server
