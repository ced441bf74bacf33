"""Fixtures for tests that need a real Redis server, and hooks for every test run."""

import signal
import sys
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]  # it ships no types

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.bubblewrap import prefixes
from rlm_dist.sandbox.level import Level
from rlm_dist.store import Store, connect
from tests.support.key_leaks import end_all_jobs, leaked_keys
from tests.support.redis_servers import RedisServer, flavours, running
from tests.support.side_by_side import SideBySide, longest_first

# An example may take long where the machine has other work, too.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: a shell's background jobs ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.load_profile("busy machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SideBySide:
    """Decide which tests run at the same time."""
    return SideBySide(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests to which Debian's programs make a difference, and start the longest first."""
    for item in items:
        if "/sandbox/" in item.nodeid and Level.NAMESPACES in item.name:  # no other level uses bubblewrap
            item.add_marker("debian")
    longest_first(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the programs, possibly Debian's, that the tests used."""
    try:
        program = next(prefixes(sys.executable, [], as_root=False))[0]
    except SandboxError:
        program = "none"
    terminalreporter.write_line(f"bubblewrap: {program}")
    terminalreporter.write_line(f"redis servers: {', '.join(flavours().values())}")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real server for the session, of the kind that an embedded cluster uses."""
    with running(flavours()["valkey"], tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """The address of the session's server, which is empty before and after the test."""
    with connect(redis_server.admin_url, client_name="test") as client:
        client.flushall()
        client.config_set("maxmemory", 0)
        yield redis_server.url
        client.flushall()


@pytest.fixture
def admin_url(redis_server: RedisServer) -> str:
    """The address of the same server for a user that may do everything."""
    return redis_server.admin_url


_OF_DEBIAN = {"redis": [pytest.mark.debian]}


@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=_OF_DEBIAN.get(name, [])) for name in sorted(flavours())],
)
def each_redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """Each flavour of server on this machine in turn."""
    with running(flavours()[request.param], tmp_path_factory.mktemp(f"redis-{request.param}")) as server:
        yield server


@pytest.fixture
def redis_admin(each_redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client that may do everything on the server of ``redis_client``."""
    with connect(each_redis_server.admin_url, client_name="test-admin") as client:
        yield client


@pytest.fixture
def redis_client(each_redis_server: RedisServer, redis_admin: redis.Redis) -> Iterator[redis.Redis]:
    """A client of an empty server; the test runs once for each flavour."""
    redis_admin.flushall()
    redis_admin.config_set("maxmemory", 0)
    with connect(each_redis_server.url, client_name="test") as client:
        yield client


@pytest.fixture
def store(redis_client: redis.Redis) -> Iterator[Store]:
    """A store on an empty server; after the test all jobs are ended, and then every key must have a TTL."""
    store = Store(redis_client, retention_s=1000)
    yield store
    end_all_jobs(store)
    assert leaked_keys(redis_client) == []
