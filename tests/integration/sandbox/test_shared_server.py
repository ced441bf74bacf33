"""The processes of one worker share a fork-server, and what happens to one of them does not hit another."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.sandbox.level import LOCKED
from tests.support.sandboxes import exists, held_bytes, parent_of, require, write_context
from tests.support.waiting import wait_until
from tests.support.worker_pool import Pool, pool

SIZE = 20_000_000


@pytest.fixture(params=LOCKED)
def worker(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A worker at one level, with up to three processes."""
    require(request.param)
    with pool(request.param, 3) as running:
        yield running


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small encoded context."""
    return write_context(tmp_path / "small", "str", ["hello"])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A large encoded context of two texts."""
    return write_context(tmp_path / "large", "list", ["x" * SIZE, "y"])


def test_two_processes_have_repls_at_once_and_hear_how_their_own_ended(worker: Pool, small: Path) -> None:
    one, two = worker.fork(), worker.fork()
    first, second = one.start(small), two.start(small)
    assert first.parent == second.parent
    one.run("x = 1")
    assert "NameError" in (two.run("x")[1] or "")
    os.kill(first.pid, signal.SIGKILL)
    assert "it was ended by signal 9" in (one.run("1")[1] or "")
    assert two.run("context") == ("'hello'\n", None)
    _, error = two.run("import os\nos._exit(7)")
    assert "it exited with code 7" in (error or "")


def test_a_process_that_is_killed_takes_its_own_repls_along(worker: Pool, small: Path, large: Path) -> None:
    one, two, three = (worker.fork() for _ in range(3))
    first, second, third = one.start(small), two.start(large), three.start(large)
    three.run("x = 1")
    for pid in (first.pid, second.pid):
        os.kill(pid, signal.SIGSTOP)  # the process cannot end by itself
    for member in (one, two):
        os.kill(member.pid, signal.SIGKILL)
    wait_until(lambda: not exists(first.pid) and not exists(second.pid))
    assert three.run("x, context[1]") == ("(1, 'y')\n", None)
    assert exists(third.parent)


def test_a_process_that_was_forked_later_shares_it_as_well(worker: Pool, small: Path) -> None:
    one = worker.fork()
    first = one.start(small)
    os.kill(one.pid, signal.SIGKILL)
    wait_until(lambda: not exists(first.pid))
    assert worker.fork().start(small).parent == first.parent


def test_repls_of_two_processes_over_one_large_context_share_its_memory(
    worker: Pool, small: Path, large: Path
) -> None:
    one, two, three = (worker.fork() for _ in range(3))
    first, second, third = one.start(large), two.start(large), three.start(small)
    assert first.parent == second.parent
    assert parent_of(first.parent) == third.parent
    assert max(held_bytes(first.pid), held_bytes(second.pid)) < SIZE
    os.kill(one.pid, signal.SIGKILL)
    wait_until(lambda: not exists(first.pid))
    assert exists(second.parent)
    os.kill(two.pid, signal.SIGKILL)
    wait_until(lambda: not exists(second.parent))


def test_where_it_was_killed_each_process_has_one_of_its_own(worker: Pool, small: Path) -> None:
    one, two = worker.fork(), worker.fork()
    first = one.start(small)
    os.kill(first.parent, signal.SIGKILL)
    assert "the fork-server died" in (one.run("import threading\nthreading.Event().wait()")[1] or "")
    parents = {one.start(small).parent, two.start(small).parent, first.parent}
    assert len(parents) == 3
    assert one.run("context") == two.run("context") == ("'hello'\n", None)


def test_it_outlives_the_process_that_started_it_and_ends_with_those_that_joined(
    worker: Pool, small: Path
) -> None:
    one, two = worker.fork(), worker.fork()
    first = one.start(small)
    worker.main.kill()
    worker.main.wait()
    assert one.run("context") == ("'hello'\n", None)
    assert two.start(small).parent == first.parent
    for member in (one, two):
        os.kill(member.pid, signal.SIGKILL)
    wait_until(lambda: not exists(first.pid) and not exists(first.parent))


def test_it_ends_with_the_worker(worker: Pool, small: Path) -> None:
    one = worker.fork()
    first = one.start(small)
    assert worker.main.stdin is not None
    worker.main.stdin.close()
    worker.main.wait()
    wait_until(lambda: not exists(first.pid) and not exists(first.parent))


def test_a_context_that_cannot_be_loaded_is_told_to_each(worker: Pool, large: Path, small: Path) -> None:
    os.truncate(large, SIZE // 2)
    one, two = worker.fork(), worker.fork()
    for member in (one, two):
        member.order("start", str(large))
    for member in (one, two):
        assert "bytes too early" in (member.started().problem or "")
    assert one.start(small).problem is None
