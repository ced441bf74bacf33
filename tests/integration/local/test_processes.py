"""Worker processes are started, restarted when they die, and gone with their parent, however it ends."""

import errno
import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import rlm_dist.local.processes as cluster_module
from rlm_dist.errors import InputError, Unreachable
from rlm_dist.local.folders import own_folder
from rlm_dist.local.processes import Cluster
from rlm_dist.local.readiness import Readiness, say_ready
from rlm_dist.settings import load_settings
from tests.support.environment import PROJECT
from tests.support.scripts import alive, script
from tests.support.waiting import wait_until

# A worker with a child in its group, as a worker that runs a job alone has; it writes both ids when it is up.
WORKER = """
import os, signal, subprocess, sys, time
from rlm_dist.local.lifeline import watch_lifeline
stubborn = len(sys.argv) > 2
def end(*_):
    print("asked to end", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else end)
watch_lifeline(grace_s=0.2)
child = subprocess.Popen(["sleep", "300"])
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.replace(sys.argv[1] + ".part", sys.argv[1])
print("up", os.environ.get("RLM_MODEL"), flush=True)
while True:
    time.sleep(300)
"""
PARENT = """
import sys
from pathlib import Path
from rlm_dist.local.processes import Cluster
worker, up, folder = sys.argv[1:]
with Cluster({"w": [sys.executable, "-c", worker, up]}, environment={}, folder=Path(folder)):
    sys.stdin.read()
"""


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file to which the worker writes its own and its child's id; neither may be left at the end."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    path = tmp_path / "up"
    yield path
    if path.exists():
        try:
            wait_until(lambda: gone(path), timeout_s=5)
        finally:
            for pid in pids(path):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def pids(up: Path) -> list[int]:
    return [int(word) for word in up.read_text().split()]


def gone(up: Path) -> bool:
    return not any(alive(pid) for pid in pids(up))


def dummy(up: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", WORKER, str(up), *arguments]


def test_workers_get_the_settings_and_their_words_go_to_a_log(up: Path, tmp_path: Path) -> None:
    settings = load_settings(model="m1", api_key="k", home=tmp_path, ask_at_limit=True)
    variables = settings.variables()
    with Cluster({"w": dummy(up)}, environment=variables, folder=tmp_path) as cluster:
        cluster.wait_ready(up.exists, 30)
        assert cluster.pids() == {"w": pids(up)[0]}
        log = tmp_path / "logs" / "w.log"
        wait_until(lambda: log.read_text() == "up m1\n")


def test_settings_come_back_from_their_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(model="m1", api_key="k", home=tmp_path, ask_at_limit=True)
    for name, value in settings.variables().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


@pytest.mark.parametrize("stubborn", [(), ("stubborn",)])
def test_a_stop_ends_the_worker_and_its_children(up: Path, tmp_path: Path, stubborn: tuple[str, ...]) -> None:
    with Cluster({"w": dummy(up, *stubborn)}, environment={}, folder=tmp_path) as cluster:
        cluster.wait_ready(up.exists, 30)
        cluster.stop(grace_s=0.5 if stubborn else 30)
        assert not alive(pids(up)[0])
        wait_until(lambda: gone(up))


def test_a_worker_that_dies_is_started_again_and_its_children_are_not_left(up: Path, tmp_path: Path) -> None:
    with Cluster({"w": dummy(up)}, environment={}, folder=tmp_path) as cluster:
        cluster.wait_ready(up.exists, 30)
        worker, child = pids(up)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: pids(up)[0] != worker)
        wait_until(lambda: not alive(child))


@pytest.mark.parametrize("stubborn", [(), ("stubborn",)])
def test_workers_vanish_when_their_parent_is_killed(
    up: Path, tmp_path: Path, stubborn: tuple[str, ...]
) -> None:
    code = PARENT.replace("up]", "up, 'stubborn']") if stubborn else PARENT
    with script(code, WORKER, str(up), str(tmp_path)) as parent:
        wait_until(up.exists)
        parent.kill()
        wait_until(lambda: not alive(pids(up)[0]))
    if not stubborn:  # a worker that ends by itself takes care of its own children
        assert "asked to end" in (tmp_path / "logs" / "w.log").read_text()
        os.kill(pids(up)[1], signal.SIGKILL)
    wait_until(lambda: not alive(pids(up)[1]))


def test_ctrl_c_reaches_the_parent_only_which_then_stops_its_workers(up: Path, tmp_path: Path) -> None:
    with script(PARENT, WORKER, str(up), str(tmp_path)) as parent:
        wait_until(up.exists)
        os.killpg(parent.pid, signal.SIGINT)
        parent.wait(30)
        assert not alive(pids(up)[0])


def test_a_worker_that_dies_at_its_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    words = pytest.raises(Unreachable, match=r"(?s)worker w.*exit code 1.*no such thing")
    with Cluster({"w": command}, environment={}, folder=tmp_path) as cluster, words:
        cluster.wait_ready(lambda: False, 30)


READY = """
import sys
from rlm_dist.local.readiness import say_ready, take_ready_descriptor
descriptor = take_ready_descriptor()
sys.stdin = open(sys.argv[1])  # a pipe with a name: it opens when the test says so
say_ready(descriptor)
sys.stdin.read()
"""


def test_a_cluster_waits_for_each_worker_to_say_that_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    gates = {name: tmp_path / name for name in ("a", "b")}
    for gate in gates.values():
        os.mkfifo(gate)
    commands = {name: [sys.executable, "-c", READY, str(gate)] for name, gate in gates.items()}
    with Cluster(commands, environment={}, folder=tmp_path) as cluster, gates["a"].open("w"):
        cluster.wait_ready(lambda: cluster.are_ready(["a"]), 30)
        assert not cluster.are_ready(["a", "b"])
        with gates["b"].open("w"):
            cluster.wait_ready(lambda: cluster.are_ready(["a", "b"]), 30)


def test_a_worker_whose_parent_listens_no_more_starts_all_the_same() -> None:
    readiness = Readiness()
    descriptor = os.dup(readiness.descriptor)
    readiness.close()
    say_ready(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_cluster_that_does_not_get_ready_is_an_error(up: Path, tmp_path: Path) -> None:
    with Cluster({"w": dummy(up)}, environment={}, folder=tmp_path) as cluster:
        wait_until(up.exists)
        with pytest.raises(Unreachable, match="not ready after"):
            cluster.wait_ready(lambda: False, 0.1)


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_MAX_LOG_BYTES", 10_000)
    chatter = "import time\nwhile True:\n print('x' * 99, flush=True)\n time.sleep(0.001)"
    with Cluster({"w": [sys.executable, "-c", chatter]}, environment={}, folder=tmp_path):
        aside = tmp_path / "logs" / "w.log.1"
        wait_until(lambda: aside.exists() and aside.stat().st_size > 10_000)
        inode = (tmp_path / "logs" / "w.log").stat().st_ino
        wait_until(lambda: (tmp_path / "logs" / "w.log").stat().st_size > 0)
        assert (tmp_path / "logs" / "w.log").stat().st_ino == inode


def test_workers_run_in_a_folder_that_only_we_can_read(up: Path, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    with Cluster({"w": dummy(up)}, environment={}, folder=folder):
        wait_until(up.exists)
        assert os.readlink(f"/proc/{pids(up)[0]}/cwd") == str(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "logs")} == {0o700}


def test_a_folder_of_somebody_else_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(InputError, match=f"RLM_HOME: {tmp_path} cannot be used: Operation not permitted"):
        own_folder(tmp_path)
