"""REPLs over one large context share its memory, and nothing else."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.fork_server_start import ForkServerStart
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import LOCKED
from tests.support.sandboxes import (
    LIMITS,
    echo,
    exists,
    held_bytes,
    parent_of,
    process_of,
    require,
    shown,
    state_of,
    write_context,
)
from tests.support.waiting import wait_until

SIZE = 20_000_000


@pytest.fixture(params=LOCKED)
def server(request: pytest.FixtureRequest) -> Iterator[ForkServerStart]:
    """A separate fork-server at one level."""
    require(request.param)
    with closing(ForkServerStart(request.param)) as start:
        yield start


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A large encoded context of two texts."""
    return write_context(tmp_path / "context", "list", ["x" * SIZE, "y"])


def over(context: Path, server: ForkServerStart, limits: SandboxLimits = LIMITS) -> Sandbox:
    """A REPL from this fork-server."""
    return Sandbox(context_path=context, query=echo, limits=limits, start=server)


def template_of(repl: Sandbox) -> int:
    """The process from which a REPL was forked."""
    return parent_of(process_of(repl))


def test_its_memory_is_shared_and_what_one_changes_no_other_sees(
    context: Path, server: ForkServerStart
) -> None:
    with over(context, server) as one, over(context, server) as two:
        assert template_of(one) == template_of(two)
        assert shown(one, "context[1] = 'changed'\nx = 1\nlen(context[0])") == f"{SIZE}\n"
        assert shown(two, "len(context[0]), context[1]") == f"({SIZE}, 'y')\n"
        assert "NameError" in (two.run("x").error or "")
        assert held_bytes(process_of(one)) < SIZE
        with over(context, server) as three:
            assert shown(three, "context[1]") == "'y'\n"


def test_a_template_ends_with_its_last_repl(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as one:
        template = template_of(one)
        with over(context, server):
            pass
        assert shown(one, "context[1]") == "'y'\n"
        assert exists(template)
    wait_until(lambda: not exists(template))
    with over(context, server) as again:
        assert shown(again, "context[1]") == "'y'\n"


def test_another_context_has_another_template(context: Path, server: ForkServerStart, tmp_path: Path) -> None:
    other = write_context(tmp_path / "other", "list", ["x" * SIZE, "z"])
    with over(context, server) as one, over(other, server) as two:
        assert template_of(one) != template_of(two)
        assert shown(two, "context[1]") == "'z'\n"


def test_a_small_context_has_none(context: Path, server: ForkServerStart, tmp_path: Path) -> None:
    small = write_context(tmp_path / "small", "list", ["x", "y"])
    with over(small, server) as one, over(context, server) as two:
        assert parent_of(process_of(one)) == parent_of(template_of(two))


def test_where_it_dies_its_repls_die_and_the_next_ones_get_a_new_one(
    context: Path, server: ForkServerStart
) -> None:
    with over(context, server) as repl:
        child, template = process_of(repl), template_of(repl)
        os.kill(template, signal.SIGKILL)
        result = repl.run("import threading\nthreading.Event().wait()")
        assert result.state_lost
        wait_until(lambda: not exists(child))
        repl.restart()
        assert shown(repl, "context[1]") == "'y'\n"


def test_closing_the_fork_server_ends_templates_and_repls(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as repl:
        child, template = process_of(repl), template_of(repl)
        server.close()
        wait_until(lambda: not exists(child) and not exists(template))
        assert repl.run("1").state_lost


def test_a_context_that_does_not_fit_is_told(context: Path, server: ForkServerStart) -> None:
    with pytest.raises(SandboxError, match="the context does not fit into the memory limit"):
        over(context, server, SandboxLimits(memory_bytes=1)).start()


def test_a_context_that_is_damaged_is_told(context: Path, server: ForkServerStart) -> None:
    os.truncate(context, SIZE // 2)
    with pytest.raises(SandboxError, match=r"the context cannot be loaded: .* ends \d+ bytes too early"):
        over(context, server).start()


def test_many_threads_share_one_template(context: Path, server: ForkServerStart) -> None:
    with ExitStack() as stack:
        repls = [over(context, server) for _ in range(12)]
        for repl in repls:
            stack.callback(repl.close)
        threads = [threading.Thread(target=repl.start) for repl in repls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [shown(repl, "context[1]") for repl in repls] == ["'y'\n"] * 12
        assert len({template_of(repl) for repl in repls}) == 1


def loading(fork_server: int, context: Path) -> int:
    """Stop the template that loads this context; returns its process id, or 0 if there is none."""
    children = Path(f"/proc/{fork_server}/task/{fork_server}/children").read_text().split()
    template = next((pid for pid in map(int, children) if holds(pid, context)), 0)
    if template:
        os.kill(template, signal.SIGSTOP)
        wait_until(lambda: state_of(template) == "T")
        assert holds(template, context), "it had loaded the context before it was stopped"
    return template


def holds(pid: int, file: Path) -> bool:
    """Whether a process has this file open."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return str(file) in [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return False


def handed(fork_server: int, context: Path) -> int:
    """The number of orders over this context that wait in the fork-server."""
    links = Path(f"/proc/{fork_server}/fd").iterdir()
    return [os.readlink(link) for link in links].count(str(context))


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A context that takes long to load for its size."""
    return write_context(tmp_path / "slow", "json", [f"[{'0,' * (SIZE // 2)}0]"])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small encoded context."""
    return write_context(tmp_path / "small", "str", ["hello"])


def test_while_a_template_loads_others_are_served(
    context: Path, server: ForkServerStart, slow: Path, small: Path
) -> None:
    with over(small, server) as first, ThreadPoolExecutor() as threads:
        fork_server = template_of(first)
        one, closed = over(slow, server), over(slow, server)
        with closing(one):
            starts = [threads.submit(repl.start) for repl in (one, closed)]
            template = wait_until(lambda: loading(fork_server, slow))
            with over(small, server) as other, over(context, server) as another:
                assert shown(other, "context") == "'hello'\n"
                assert shown(another, "context[1]") == "'y'\n"
            wait_until(lambda: handed(fork_server, slow) == 2)
            closed.close()
            with pytest.raises(SandboxError):
                starts[1].result()
            assert handed(fork_server, slow) == 1
            os.kill(template, signal.SIGCONT)
            starts[0].result()
            assert template_of(one) == template


def test_where_a_template_dies_while_it_loads_each_repl_loads_for_itself(
    server: ForkServerStart, slow: Path, small: Path
) -> None:
    with over(small, server) as first, ThreadPoolExecutor() as threads, closing(over(slow, server)) as one:
        fork_server = template_of(first)
        start = threads.submit(one.start)
        os.kill(wait_until(lambda: loading(fork_server, slow)), signal.SIGKILL)
        start.result()
        assert template_of(one) == fork_server


def test_a_template_is_locked_too(context: Path, server: ForkServerStart) -> None:
    with over(context, server) as repl:
        repl_process = process_of(repl)
        filters = {}
        for name, pid in (("repl", repl_process), ("template", parent_of(repl_process))):
            status = Path(f"/proc/{pid}/status").read_text()
            found = dict(line.split(":", 1) for line in status.splitlines())
            assert found["NoNewPrivs"].strip() == "1"
            filters[name] = int(found["Seccomp_filters"])
        assert filters["repl"] - 1 == filters["template"] >= 1
