"""The Python API for asyncio: the same names as ``Client``, ``Job`` and ``Batch``, awaited.

Each method runs the synchronous one in a thread, so there is one logic. Waiting needs no thread: one task
looks at all jobs and batches that are awaited.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, Unpack, cast

from rlm_dist.client.client import Client
from rlm_dist.client.handles import Batch, Job
from rlm_dist.client.option_types import RetryOptions, SubmitBatchOptions, SubmitOptions
from rlm_dist.client.session import Session
from rlm_dist.errors import ClientClosed, NotFound
from rlm_dist.schema import BatchRecord, BatchState, Costs, JobRecord, JobState, Result
from rlm_dist.schema.events import Event
from rlm_dist.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 32
_LOOK_S = 0.1
_MOST_LOOK_S = 2.0
_LOOKS_SHARE = 10  # at most this part of the time is spent on looking
_END = object()


class AsyncClient:
    """A connection to the cluster for one event loop; an async context manager that opens and closes it.

    Raises:
        SettingsError, Unreachable: on entering, as ``Client``.
    """

    def __init__(self, settings: Settings | None = None, *, redis_url: str | None = None) -> None:
        self._make = partial(Client, settings, redis_url=redis_url)
        self._client: Client | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rlm-async")
        self._ends = _JobEnds(self)

    async def __aenter__(self) -> "AsyncClient":
        self._client = await self.in_thread(self._make)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections and stop what was started; whatever is awaited raises ``ClientClosed``."""
        self._ends.close()
        client, self._client = self._client, None
        if client is not None:
            await self.in_thread(client.close)
        self._threads.shutdown(wait=False)

    @property
    def sync(self) -> Client:
        """The client that does the work.

        Raises:
            ClientClosed: before it is entered, and after it is closed.
        """
        if self._client is None:
            raise ClientClosed
        return self._client

    @property
    def settings(self) -> Settings:
        """The settings in use."""
        return self.sync.settings

    def job(self, job_id: str) -> "AsyncJob":
        """A job that was submitted before."""
        return AsyncJob(self, self.sync.job(job_id))

    def batch(self, batch_id: str) -> "AsyncBatch":
        """A batch that was submitted before."""
        return AsyncBatch(self, self.sync.batch(batch_id))

    async def submit(
        self,
        context: object,
        query: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        **options: Unpack[SubmitOptions],
    ) -> "AsyncJob":
        """Submit one job, as ``Client.submit``."""
        submit = partial(self.sync.submit, metadata=metadata, tags=tags, **options)
        return AsyncJob(self, await self.in_thread(submit, context, query))

    async def session(self, context: object, **options: Unpack[SubmitOptions]) -> "AsyncSession":
        """Open a session over a context, as ``Client.session``."""
        open_session = partial(self.sync.session, context, **options)
        return AsyncSession(self, await self.in_thread(open_session))

    async def reopen_session(self, session_id: str, **options: Unpack[SubmitOptions]) -> "AsyncSession":
        """Continue a session, as ``Client.reopen_session``."""
        reopen = partial(self.sync.reopen_session, session_id, **options)
        return AsyncSession(self, await self.in_thread(reopen))

    async def submit_batch(
        self,
        items: Iterable[Mapping[str, Any]],
        batch_id: str | None = None,
        *,
        context_root: str | Path | None = None,
        cap: bool = False,
        **options: Unpack[SubmitBatchOptions],
    ) -> "AsyncBatch":
        """Submit jobs together, as ``Client.submit_batch``."""
        submit = partial(self.sync.submit_batch, context_root=context_root, cap=cap, **options)
        return AsyncBatch(self, await self.in_thread(submit, items, batch_id))

    async def submit_file(
        self,
        path: str | Path,
        batch_id: str | None = None,
        *,
        skip_invalid: bool = False,
        context_root: str | Path | None = None,
        cap: bool = False,
        **options: Unpack[SubmitBatchOptions],
    ) -> "AsyncBatch":
        """Submit the jobs of a batch file, as ``Client.submit_file``."""
        submit = partial(
            self.sync.submit_file, skip_invalid=skip_invalid, context_root=context_root, cap=cap, **options
        )
        return AsyncBatch(self, await self.in_thread(submit, path, batch_id))

    async def retry(self, batch_id: str, **options: Unpack[RetryOptions]) -> int:
        """Run again the jobs of a batch that ended without an answer, as ``Client.retry``."""
        return await self.in_thread(self.sync.retry, batch_id, **options)

    async def in_thread(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in one of this client's threads."""
        call = partial(fn, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def iterate(self, make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """The items of an iterator, each taken in a thread."""
        iterator = await self.in_thread(make)
        while (item := await self.in_thread(next, iterator, cast(T, _END))) is not _END:
            yield item

    async def until_final(self, job_id: str) -> JobState:
        """Wait until a job has ended; return its state.

        Raises:
            NotFound: if the job does not exist, or its retention is over.
        """
        return await self._ends.state(job_id)


class AsyncJob:
    """One query over one context; the methods are those of ``Job``."""

    def __init__(self, client: AsyncClient, job: Job) -> None:
        self._client = client
        self._job = job
        self.id = job.id

    def __repr__(self) -> str:
        return repr(self._job).replace("<Job", "<AsyncJob")

    async def result(self, timeout: float | None = None) -> Result:  # as Job.result has it
        """Wait until the job ends, in whatever state, and return its result."""
        await self.wait(timeout)
        return await self._client.in_thread(self._job.result)

    async def wait(self, timeout: float | None = None) -> JobState:
        """Wait until the job ends; return its state."""
        await self._client.in_thread(self._job.wake)
        try:
            async with asyncio.timeout(timeout):
                return await self._client.until_final(self.id)
        except TimeoutError:
            raise TimeoutError(f"job {self.id} has not ended after {timeout:g} s") from None

    async def status(self) -> JobState:
        """The job's state."""
        return await self._client.in_thread(self._job.status)

    async def record(self) -> JobRecord:
        """The job's record in the store."""
        return await self._client.in_thread(self._job.record)

    async def cost(self) -> Costs:
        """What the job has used up to now."""
        return await self._client.in_thread(self._job.cost)

    async def raise_for_state(self) -> None:
        """Raise if the job has ended without an answer."""
        await self._client.in_thread(self._job.raise_for_state)

    async def cancel(self) -> JobState:
        """Cancel the job."""
        return await self._client.in_thread(self._job.cancel)

    async def delete(self) -> int:
        """Remove the job, which must have ended."""
        return await self._client.in_thread(self._job.delete)

    def events(self) -> AsyncIterator[Event]:
        """The job's events from its start, then new ones as they happen, until it ends."""
        return self._client.iterate(self._job.events)


class AsyncSession:
    """Queries over one context that share a REPL; the methods are those of ``Session``."""

    def __init__(self, client: AsyncClient, session: Session) -> None:
        self._client = client
        self._session = session
        self.id = session.id

    def __repr__(self) -> str:
        return repr(self._session).replace("<Session", "<AsyncSession")

    async def __aenter__(self) -> "AsyncSession":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more queries here; what was submitted goes on."""
        self._session.close()

    def jobs(self) -> list[AsyncJob]:
        """The jobs of its queries up to now, in order."""
        return [AsyncJob(self._client, job) for job in self._session.jobs()]

    async def ask(
        self, query: str, *, timeout: float | None = None, **options: Unpack[SubmitOptions]
    ) -> Result:  # as Session.ask has it
        """Submit a query, once the one before has ended, and wait for its result."""
        for job in self.jobs()[-1:]:
            await job.wait(timeout)
        return await (await self.submit(query, **options)).result(timeout)

    async def submit(self, query: str, **options: Unpack[SubmitOptions]) -> AsyncJob:
        """Submit a query."""
        job = await self._client.in_thread(partial(self._session.submit, query, **options))
        return AsyncJob(self._client, job)

    async def add(self, name: str, value: object) -> str:
        """Add a context, as the next query finds it; return the name of its variable."""
        return await self._client.in_thread(self._session.add, name, value)

    async def add_file(self, path: str | Path) -> str:
        """Add a file, or a folder as a list of documents, under its name; otherwise like ``add``."""
        return await self._client.in_thread(self._session.add_file, path)


class AsyncBatch:
    """Many jobs that were submitted together; the methods are those of ``Batch``."""

    def __init__(self, client: AsyncClient, batch: Batch) -> None:
        self._client = client
        self._batch = batch
        self.id = batch.id

    def __repr__(self) -> str:
        return repr(self._batch).replace("<Batch", "<AsyncBatch")

    async def status(self) -> BatchState:
        """The batch's state."""
        return await self._client.in_thread(self._batch.status)

    async def record(self) -> BatchRecord:
        """The batch's record in the store."""
        return await self._client.in_thread(self._batch.record)

    async def wait(self, timeout: float | None = None) -> BatchState:  # as Batch.wait has it
        """Wait until all its jobs have ended; return its state."""
        return await self._client.in_thread(self._batch.wait, timeout)

    async def raise_for_state(self) -> None:
        """Raise if jobs have ended without an answer."""
        await self._client.in_thread(self._batch.raise_for_state)

    async def jobs(self) -> list[AsyncJob]:
        """The jobs submitted up to now, in the order of submission."""
        return [AsyncJob(self._client, job) for job in await self._client.in_thread(self._batch.jobs)]

    async def cost(self) -> Costs:
        """What all jobs have used up to now."""
        return await self._client.in_thread(self._batch.cost)

    async def cancel(self) -> None:
        """Cancel every job that has not ended."""
        await self._client.in_thread(self._batch.cancel)

    async def delete(self) -> int:
        """Remove the batch, which must have ended, with its jobs."""
        return await self._client.in_thread(self._batch.delete)

    async def pause(self) -> None:
        """Start no more jobs and sub-calls, and let calls under way finish."""
        await self._client.in_thread(self._batch.pause)

    async def resume(self) -> None:
        """End the pause."""
        await self._client.in_thread(self._batch.resume)

    async def retry(self, **options: Unpack[RetryOptions]) -> int:
        """Run again the jobs that ended without an answer; return their number."""
        return await self._client.in_thread(self._batch.retry, **options)

    async def finish(self, stalled_after: float) -> list[AsyncJob]:
        """Fail the running jobs that have made no progress for this many seconds; return them."""
        jobs = await self._client.in_thread(self._batch.finish, stalled_after)
        return [AsyncJob(self._client, job) for job in jobs]

    def results(self) -> AsyncIterator[Result]:
        """The results in order of completion; ends when the batch does."""
        return self._client.iterate(self._batch.results)

    def results_in_order(self) -> AsyncIterator[Result]:
        """The results in the order of submission, each as soon as it and all before it are available."""
        return self._client.iterate(self._batch.results_in_order)

    def __aiter__(self) -> AsyncIterator[Result]:
        return self.results()


class _JobEnds:
    """Waits for the ends of jobs; one task looks at all awaited jobs together."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._awaited: dict[str, asyncio.Future[JobState]] = {}
        self._task: asyncio.Task[None] | None = None

    async def state(self, job_id: str) -> JobState:
        """Wait until a job has ended; return its state."""
        future = self._awaited.get(job_id)
        if future is None:
            future = self._awaited[job_id] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        return await asyncio.shield(future)

    def close(self) -> None:
        """Fail all who wait."""
        if self._task is not None:
            self._task.cancel()
        self._fail(ClientClosed())

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._awaited:
                began = loop.time()
                jobs = list(self._awaited)
                states = await self._client.in_thread(self._client.sync.store.jobs.states, jobs)
                for job_id, state in zip(jobs, states, strict=True):
                    self._resolve(job_id, state)
                await asyncio.sleep(min(_MOST_LOOK_S, max(_LOOK_S, _LOOKS_SHARE * (loop.time() - began))))
        except Exception as error:  # noqa: BLE001  # those who wait raise it
            self._fail(error)

    def _resolve(self, job_id: str, state: JobState | None) -> None:
        if state is None:
            self._awaited.pop(job_id).set_exception(NotFound("job", job_id))
        elif state.final:
            self._awaited.pop(job_id).set_result(state)

    def _fail(self, error: Exception) -> None:
        awaited, self._awaited = self._awaited, {}
        for future in awaited.values():
            with suppress(asyncio.InvalidStateError):
                future.set_exception(error)
                future.exception()  # it may be that nobody waits any more
