"""The calls of all REPLs of a process take a bounded part of its memory, and each REPL gets on."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from rlm_dist.errors import Cancelled
from rlm_dist.sandbox import session
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.shared_memory import SharedMemory
from rlm_dist.schema import Answer, Message
from tests.support.sandboxes import LIMITS, echo, forks, shown, write_context
from tests.support.waiting import wait_until

THREADS = """from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    n = len(list(pool.map(llm_query, ["q" * 10_000] * 8)))
n"""


def test_a_repl_with_much_open_waits_and_another_ones_call_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SharedMemory(25_000)
    monkeypatch.setattr(session, "_shared_memory", memory)
    context = write_context(tmp_path / "context", "str", ["hello"])
    open_calls: list[int] = []
    answer = threading.Event()

    def held(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        open_calls.append(len(prompts))
        answer.wait()
        return echo(prompts, model)

    with (
        Sandbox(context_path=context, query=held, limits=LIMITS, start=forks()) as greedy,
        Sandbox(context_path=context, query=echo, limits=LIMITS, start=forks()) as modest,
    ):
        results: list[str] = []
        running = threading.Thread(target=lambda: results.append(shown(greedy, THREADS)))
        running.start()
        try:
            # One of its own, and the two for which the process has room.
            wait_until(lambda: len(open_calls) == 3)
            assert not memory.lend(10_000)
            assert shown(modest, "llm_query('q' * 10_000)[:6]") == "'None:q'\n"
            assert len(open_calls) == 3
        finally:
            answer.set()
            running.join()
        assert results == ["8\n"]
        wait_until(lambda: memory.lend(25_000))


def has_all(memory: SharedMemory) -> bool:
    """Whether nothing of a megabyte is lent."""
    if memory.lend(1_000_000):
        memory.give_back(1_000_000)
        return True
    return False


def test_what_was_lent_comes_back_when_a_repl_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SharedMemory(1_000_000)
    monkeypatch.setattr(session, "_shared_memory", memory)
    monkeypatch.setattr(session, "_MAX_THREADS", 1)  # so that calls wait which will never be begun
    context = write_context(tmp_path / "context", "str", ["hello"])
    began, answer = threading.Event(), threading.Event()

    def held(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        began.set()
        answer.wait()
        return echo(prompts, model)

    with Sandbox(context_path=context, query=held, limits=LIMITS, start=forks()) as repl:

        def run() -> None:
            with suppress(Cancelled):
                repl.run(THREADS)

        running = threading.Thread(target=run)
        running.start()
        try:
            began.wait()
            wait_until(lambda: not has_all(memory))
            repl.abort(Cancelled("j"))
        finally:
            answer.set()
            running.join()
    wait_until(lambda: has_all(memory))
