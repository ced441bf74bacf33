"""At most N requests are in flight, and waiting ones get slots in turn by job."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.slots import Slots

OVER = CallError(FailureKind.RETURNED, "over")


class Entered:
    """Calls that want a slot, and those that have one, in order."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.names: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, *names: str) -> None:
        """Let calls ask for slots, each named by its job and a number."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._enter(name))
        await settle()

    async def _enter(self, name: str) -> None:
        await self.slots.acquire(name[0])
        self.names.append(name)


async def settle() -> None:
    """Run everything in the event loop that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(slots: int | None, test: Callable[[Entered], Awaitable[None]]) -> None:
    """Run a test in an event loop."""

    async def main() -> None:
        await test(Entered(Slots(slots)))

    asyncio.run(main())


def test_jobs_take_turns() -> None:
    async def test(calls: Entered) -> None:
        await calls.ask("a1", "a2", "a3", "a4", "b1")
        assert calls.names == ["a1", "a2"]
        for _ in range(3):
            calls.slots.release()
        await settle()
        assert calls.names == ["a1", "a2", "a3", "b1", "a4"]

    run(2, test)


def test_without_a_number_nobody_waits() -> None:
    async def test(calls: Entered) -> None:
        await calls.ask("a1", "a2", "b1")
        calls.slots.release()
        assert calls.names == ["a1", "a2", "b1"]

    run(None, test)


def test_a_call_that_was_cancelled_leaves_its_slot_to_the_next() -> None:
    async def test(calls: Entered) -> None:
        await calls.ask("a1", "a2", "a3", "a4")
        calls.tasks["a2"].cancel()
        await settle()
        calls.slots.release()
        calls.tasks["a3"].cancel()  # it has the slot but has not run since
        await settle()
        assert calls.names == ["a1", "a4"]

    run(1, test)


def test_a_job_that_is_dropped_waits_no_longer() -> None:
    async def test(calls: Entered) -> None:
        await calls.ask("a1", "a2", "b1")
        calls.slots.drop("a", OVER)
        await settle()
        with pytest.raises(CallError):
            calls.tasks["a2"].result()
        calls.slots.release()
        await settle()
        assert calls.names == ["a1", "b1"]

    run(1, test)


def test_once_closed_nobody_enters() -> None:
    async def test(calls: Entered) -> None:
        await calls.ask("a1", "a2")
        calls.slots.close(OVER)
        calls.slots.release()
        await calls.ask("b1")
        assert calls.names == ["a1"]
        for late in ("a2", "b1"):
            with pytest.raises(CallError):
                calls.tasks[late].result()

    run(1, test)
