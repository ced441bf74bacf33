"""A worker's process may have a default timeout for sockets: Celery sets one while it stops or connects."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rlm_dist.sandbox.fork_server_start import start_at
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.level import Level
from tests.support.sandboxes import LIMITS, best_level, echo, shown, write_context


@pytest.fixture(autouse=True)
def default_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(5.0)
    yield
    socket.setdefaulttimeout(before)


@pytest.mark.parametrize("locked", [True, False])
def test_a_repl_that_is_started_then_waits_for_its_orders(tmp_path: Path, locked: bool) -> None:
    """Each end would be one that does not block, and the REPL would break down as it waits."""
    context = write_context(tmp_path / "context", "str", ["hello"])
    level = best_level() if locked else Level.OFF
    with (
        closing(start_at(level)) as start,
        Sandbox(context_path=context, query=echo, limits=LIMITS, start=start) as repl,
    ):
        assert shown(repl, "len(llm_query('x' * 1_000_000))") == "1000005\n"  # after "None:"
