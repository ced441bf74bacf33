"""The Redis of docker-compose.yml, started here with its own command."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from ruamel.yaml import YAML

from tests.support.environment import PROJECT
from tests.support.redis_servers import flavours, free_port
from tests.support.waiting import wait_until


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[redis.Redis]:
    """A client, with the password, of a server started as the compose file says."""
    service = YAML(typ="safe").load(PROJECT / "docker-compose.yml")["services"]["redis"]
    shell, option, script = service["command"]
    port = free_port()
    script = (
        script.replace("$$", "$")
        .replace("/usr/local/etc/redis.conf", str(PROJECT / "deploy/redis.conf"))
        .replace("/run/redis.conf", f"{tmp_path}/redis.conf")
        .replace("redis-server ", f"{flavours()['valkey']} ")
    )
    process = subprocess.Popen(
        [shell, option, f"{script} --port {port} --dir {tmp_path}"],
        env={**os.environ, "RLM_REDIS_PASSWORD": "hush", "RLM_REDIS_MAXMEMORY": "100mb"},
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port, password="hush", decode_responses=True) as client:
            wait_until(lambda: _answers(client))
            yield client
    finally:
        process.terminate()
        process.wait()


def test_the_server_asks_for_the_password_keeps_all_and_evicts_nothing(
    deployed: redis.Redis, tmp_path: Path
) -> None:
    assert deployed.config_get("append*")["appendonly"] == "yes"
    memory = deployed.config_get("maxmemory*")
    assert (memory["maxmemory-policy"], memory["maxmemory"]) == ("noeviction", str(100 << 20))
    port = deployed.get_connection_kwargs()["port"]
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
