"""The API for asyncio; the tests play the workers."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from rlm_dist import (
    AsyncBatch,
    AsyncClient,
    AsyncJob,
    AsyncSession,
    Batch,
    BatchState,
    Client,
    ClientClosed,
    InputError,
    Job,
    JobState,
    NotFound,
    Session,
    Settings,
)
from tests.support.played_jobs import answered, play


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, home=tmp_path / "home")


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own."""

    @wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


def items(count: int) -> list[dict[str, object]]:
    return [{"id": f"q{n}", "query": "q", "context": "c"} for n in range(count)]


@pytest.mark.parametrize(
    ("sync", "awaited"),
    [(Client, AsyncClient), (Job, AsyncJob), (Batch, AsyncBatch), (Session, AsyncSession)],
)
def test_the_names_and_arguments_are_those_of_the_other_client(sync: type, awaited: type) -> None:
    ours = {"blobs", "store", "pickled", "submit_checked", "submit_pilot", "ended", "ended_in_order", "wake"}
    ours |= {"store_encoded", "submit_in_session", "with_settings"}
    names = {name for name in vars(sync) if not name.startswith("_")} - ours
    assert names <= set(vars(awaited))
    for name in names:
        method, other = getattr(sync, name), getattr(awaited, name)
        assert list(inspect.signature(method).parameters) == list(inspect.signature(other).parameters)


@in_loop
async def test_a_job_is_submitted_and_awaited(settings: Settings) -> None:
    async with AsyncClient(settings) as client:
        job = await client.submit("c", "q", max_iterations=3)
        assert (await job.record()).spec.limits.max_iterations == 3
        with pytest.raises(TimeoutError, match=f"job {job.id} has not ended after 0.01 s"):
            await job.result(0.01)
        waiting = asyncio.create_task(job.result())
        await client.in_thread(play, client.sync.store, job.id, answered("x"))
        assert (await waiting).answer == "x"
        assert await job.wait() is JobState.SUCCEEDED
        assert [event async for event in job.events()] == []
        await job.raise_for_state()
        assert (await job.cost()).total_cost == 0


@in_loop
async def test_a_batch_is_iterated_as_its_jobs_end(settings: Settings) -> None:
    async with AsyncClient(settings) as client:
        batch = await client.submit_batch(items(3), "b")
        jobs = await batch.jobs()
        store, answers = client.sync.store, []
        await client.in_thread(play, store, jobs[2].id, answered("2"))
        async for result in batch:
            answers.append(result.answer)
            if len(answers) < 3:
                await client.in_thread(
                    play, store, jobs[len(answers) - 1].id, answered(str(len(answers) - 1))
                )
        assert answers == ["2", "0", "1"]
        assert [result.answer async for result in batch.results_in_order()] == ["0", "1", "2"]
        assert await batch.wait() is BatchState.COMPLETED


@in_loop
async def test_a_thousand_jobs_are_awaited_by_few_threads(settings: Settings) -> None:
    async with AsyncClient(settings) as client:
        batch = await client.submit_batch(items(1000), "b")
        jobs = await batch.jobs()
        waits = [asyncio.create_task(job.wait()) for job in jobs]
        await asyncio.sleep(0)

        def end_all() -> int:
            for job in jobs:
                play(client.sync.store, job.id, answered("x"))
            return threading.active_count()

        assert await client.in_thread(end_all) < 60
        assert set(await asyncio.gather(*waits)) == {JobState.SUCCEEDED}


@in_loop
async def test_errors_are_those_of_the_other_client(settings: Settings) -> None:
    async with AsyncClient(settings) as client:
        with pytest.raises(InputError, match="query: is empty"):
            await client.submit("c", " ")
        with pytest.raises(NotFound, match="no such job: nobody"):
            await client.job("nobody").result()
        with pytest.raises(NotFound, match="no such batch: nobody"):
            await client.batch("nobody").wait()


@in_loop
async def test_a_closed_client_ends_what_is_awaited(settings: Settings) -> None:
    client = AsyncClient(settings)
    with pytest.raises(ClientClosed):
        client.job("x")
    async with client:
        job = await client.submit("c", "q")
        waiting = asyncio.create_task(job.wait())
        while not client._ends._awaited:  # until the task waits
            await asyncio.sleep(0)
    with pytest.raises(ClientClosed):
        await waiting
    with pytest.raises(ClientClosed):
        await client.submit("c", "q")
