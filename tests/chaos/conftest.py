"""Fixtures for a whole module of chaos: workers that die at points which a test writes into files."""

from collections.abc import Iterator

import pytest

from tests.support.deaths import Deaths
from tests.support.redis_servers import RedisServer, flavours, running


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Deaths:
    """No deaths yet."""
    return Deaths(tmp_path_factory.mktemp("chaos") / "deaths")


@pytest.fixture(scope="module")
def chaos_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of the module's own."""
    with running(flavours()["valkey"], tmp_path_factory.mktemp("chaos-redis")) as server:
        yield server
