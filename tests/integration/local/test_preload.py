"""Workers that are forked from a process which has loaded: like processes that were started alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlm_dist.errors import Unreachable
from rlm_dist.local import preload as preload_module
from rlm_dist.local.child_python import module_command
from rlm_dist.local.folders import own_folder
from rlm_dist.local.preload import preload
from rlm_dist.local.processes import Cluster
from tests.support.environment import PROJECT
from tests.support.scripts import alive
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forked workers are for Linux")

# What ``worker_command`` imports: it notes what it has inherited, and then ends or lives on.
WORKER = """
import json, os, sys, threading, time
from rlm_dist.local.lifeline import watch_lifeline
from rlm_dist.local.readiness import say_ready, take_ready_descriptor
path, last = sys.argv[2:4]
facts = {
    "pid": os.getpid(), "session": os.getsid(0), "folder": os.getcwd(), "threads": threading.active_count(),
    "variables": dict(os.environ), "stdin": os.readlink("/proc/self/fd/0"),
    "loaded": "loaded_before" in sys.modules,
}
print("a word", flush=True)
watch_lifeline(grace_s=0.2)
with open(path + ".part", "w") as file:
    json.dump(facts, file)
os.replace(path + ".part", path)
say_ready(take_ready_descriptor())
if last != "stay":
    sys.exit(int(last))
while True:
    time.sleep(300)
"""
PARENT = """
import sys
from pathlib import Path
from rlm_dist.local import preload as module
from rlm_dist.local.child_python import module_command
from rlm_dist.local.preload import preload
from rlm_dist.local.processes import Cluster
module._MODULES = ("loaded_before",)
folder = Path(sys.argv[1])
argv = module_command("rlm_dist.local.worker_command", "one_worker", str(folder / "facts"), "stay")
with preload() as preloaded, Cluster(
    {"w": argv}, environment={}, folder=folder, preloaded=preloaded, forkable=["w"]
) as cluster:
    cluster.wait_ready(lambda: cluster.are_ready(["w"]), 60)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the workers, with the module that a worker is and one that is loaded before the fork."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "one_worker.py").write_text(WORKER)
    (modules / "loaded_before.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", f"{modules}{os.pathsep}{PROJECT}")
    monkeypatch.setattr(preload_module, "_MODULES", ("loaded_before",))
    return own_folder(tmp_path / "home")


def worker(folder: Path, name: str, last: str = "stay") -> list[str]:
    return module_command("rlm_dist.local.worker_command", "one_worker", str(folder / name), last)


def facts(folder: Path, name: str) -> dict[str, Any]:
    wait_until((folder / name).exists)
    return json.loads((folder / name).read_text())  # type: ignore[no-any-return]


def test_forked_workers_are_ours_and_as_clean_as_others(folder: Path) -> None:
    names = ["one", "two"]
    with (
        preload() as preloaded,
        Cluster(
            {name: worker(folder, name) for name in names},
            environment={"RLM_MODEL": "m"},
            folder=folder,
            own={"two": {"RLM_ROOT_DEPTH": "1"}},
            preloaded=preloaded,
            forkable=names,
        ) as cluster,
    ):
        cluster.wait_ready(lambda: cluster.are_ready(names), 60)
        one, two = (facts(folder, name) for name in names)
        assert {name: fact["pid"] for name, fact in zip(names, (one, two), strict=True)} == cluster.pids()
        for fact in (one, two):
            assert fact["loaded"]
            assert fact["session"] == fact["pid"]
            assert fact["threads"] == 1
            assert fact["folder"] == str(folder)
            assert fact["stdin"] == os.devnull
            status = Path(f"/proc/{fact['pid']}/stat").read_text().rpartition(")")[2].split()
            assert int(status[1]) == os.getpid()  # its parent
        assert two["variables"]["RLM_ROOT_DEPTH"] == "1"
        different = dict(set(one["variables"].items()) - set(two["variables"].items()))
        assert different == {}
        assert one["variables"]["RLM_MODEL"] == "m"
    assert not alive(one["pid"])
    assert not alive(two["pid"])
    assert (folder / "logs/one.log").read_text() == (folder / "logs/two.log").read_text() == "a word\n"


def test_the_exit_code_of_a_forked_worker_is_told(folder: Path) -> None:
    with preload() as preloaded:
        cluster = Cluster(
            {"w": worker(folder, "facts", "3")}, environment={}, folder=folder,
            preloaded=preloaded, forkable=["w"],
        )  # fmt: skip
        with cluster, pytest.raises(Unreachable, match=r"exit code 3"):
            cluster.wait_ready(lambda: False, 60)


def test_a_forked_worker_that_dies_is_started_again_alone(folder: Path) -> None:
    with (
        preload() as preloaded,
        Cluster(
            {"w": worker(folder, "facts")}, environment={}, folder=folder,
            preloaded=preloaded, forkable=["w"],
        ) as cluster,
    ):  # fmt: skip
        first = facts(folder, "facts")["pid"]
        (folder / "facts").unlink()
        os.kill(first, signal.SIGKILL)
        again = facts(folder, "facts")
        assert not again["loaded"]
        assert cluster.pids() == {"w": again["pid"]}


def test_workers_are_started_alone_if_nothing_could_be_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preload_module, "_MODULES", ("no_such_module",))
    with (
        preload() as preloaded,
        Cluster(
            {"w": worker(folder, "facts")}, environment={}, folder=folder,
            preloaded=preloaded, forkable=["w"],
        ) as cluster,
    ):  # fmt: skip
        assert not facts(folder, "facts")["loaded"]
        assert list(cluster.pids()) == ["w"]


def test_a_killed_parent_takes_forked_workers_with_it(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
    pid = facts(folder, "facts")["pid"]
    wait_until(lambda: not alive(pid))


def test_a_process_that_nobody_needs_ends(folder: Path) -> None:
    with preload() as preloaded:
        assert preloaded is not None
        preloaded._channel.close()  # as the kernel does if we are killed
        assert preloaded._process.wait(60) == 0
