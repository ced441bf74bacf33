"""Each REPL has a user or a user namespace of its own, in which the kernel bounds its threads."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from rlm_dist.sandbox.level import LOCKED, Level
from tests.sandbox.test_attacks import NOBODY, import_paths, python_for_nobody
from tests.support.environment import PROJECT
from tests.support.sandboxes import require

REPLS = """
import json, sys
from contextlib import closing
from pathlib import Path
from rlm_dist.sandbox.fork_server_start import ForkServerStart
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.level import Level
from tests.support.sandboxes import LIMITS, echo, process_of, write_context

context = write_context(Path(sys.argv[2]), "str", [""])
with closing(ForkServerStart(Level(sys.argv[1]))) as start:
    repls = [Sandbox(context_path=context, query=echo, limits=LIMITS, start=start) for _ in range(3)]
    for repl in repls:
        repl.start()
    statuses = [Path(f"/proc/{process_of(repl)}/status").read_text().splitlines() for repl in repls]
    for repl in repls[:1]:  # the kernel stops it before the fork-server would
        limits = Path(f"/proc/{process_of(repl)}/limits").read_text()
        assert "Max processes             512                  512" in limits, limits
        block = "import threading\\ngo_on = threading.Event()\\nthreading.stack_size(1 << 20)\\n"
        block += "for _ in range(600):\\n"
        block += "    threading.Thread(target=go_on.wait, daemon=True).start()"
        stopped = repl.run(block)
        assert "can't start new thread" in (stopped.error or ""), stopped
    print(json.dumps([dict(line.split(":", 1) for line in status) for status in statuses]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests do not run as root")
@pytest.mark.parametrize("level", [Level.LANDLOCK, Level.SECCOMP])
def test_each_repl_of_a_root_worker_has_a_user_of_its_own_with_few_threads(
    level: Level, tmp_path: Path
) -> None:
    """Other users must be able to read the library. At the level namespaces bubblewrap has a user instead."""
    require(level)
    completed = subprocess.run(
        [python_for_nobody(), "-c", REPLS, level, f"{tmp_path}/context"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(import_paths())},
    )
    found = json.loads(completed.stdout)
    users = {status["Uid"] for status in found} | {status["Gid"] for status in found}
    assert len(users) == 3
    for ids in users:
        assert len({*ids.split()}) == 1  # real, effective, saved and file system ids
        assert int(ids.split()[0]) > 65534
    assert [(status["Groups"].strip(), int(status["CapEff"], 16)) for status in found] == [("", 0)] * 3


UNPRIVILEGED = """
import json, sys
from contextlib import closing
from pathlib import Path
from rlm_dist.sandbox import probe
from rlm_dist.sandbox.fork_server_start import ForkServerStart
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.level import Level
from tests.support.sandboxes import LIMITS, echo, process_of, write_context

found = []
with closing(ForkServerStart(Level(sys.argv[1]))) as start:
    for size in (0, 9_000_000):  # of a large context: the REPL is forked from a template
        context = write_context(Path(sys.argv[2]) / str(size), "str", ["x" * size])
        for _ in range(2):
            with Sandbox(context_path=context, query=echo, limits=LIMITS, start=start) as repl:
                files = Path(f"/proc/{process_of(repl)}")
                user = (files / "status").read_text().partition("Uid:")[2].split()[0]
                owner = (files / "mem").stat().st_uid
                found.append((user, owner, repl.run(probe._THREADS.read_text()).output.head))
print(json.dumps(found))
"""
NAMESPACE = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000) != 0)"


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests do not run as root: they cannot become nobody")
@pytest.mark.parametrize(
    ("level", "worker", "users"),
    [
        (Level.NAMESPACES, 0, range(1_900_000_000, 2_000_000_000)),
        *((level, NOBODY, range(NOBODY, NOBODY + 1)) for level in LOCKED),
    ],
)
def test_the_kernel_bounds_the_threads_of_each_repl_where_it_can_have_a_namespace(
    level: Level, worker: int, users: range
) -> None:
    """The kernel refuses threads without stacks beyond the limit, so that the process lives on.

    ``worker`` is the worker's user, and one of ``users`` is that of its REPLs.
    """
    require(level)
    python = python_for_nobody()
    if subprocess.run([python, "-c", NAMESPACE], user=NOBODY, group=NOBODY, extra_groups=[]).returncode:
        pytest.skip("LOUD: user namespaces are refused to nobody here: REPLs are counted by the fork-server")
    with tempfile.TemporaryDirectory(prefix="rlm-nobody-") as folder:
        os.chown(folder, worker, worker)
        completed = subprocess.run(
            [python, "-c", UNPRIVILEGED, level, folder],
            user=worker,
            group=worker,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=True,
            cwd=PROJECT,
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(import_paths())},
        )
    found = json.loads(completed.stdout)
    assert len(found) == 4
    assert all(int(user) in users and 400 < int(threads) <= 512 for user, _, threads in found), found
    assert all(owner == 0 for _, owner, _ in found), "memory that may be dumped, and that its user may read"
