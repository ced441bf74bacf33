"""A session: several queries over one context and one REPL, one after another; each is a job.

The variables that a query leaves are there for the next one. ``SessionPlace`` says how the jobs of a session
find each other: all that a session is lies in their specs, so any process can continue it by its id.
"""

import uuid
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self, Unpack

from rlm_dist.client.handles import Job
from rlm_dist.client.option_types import SubmitOptions
from rlm_dist.client.options import JobOptions, read_options
from rlm_dist.contexts.encoding import Encoded, encode, encode_files
from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import AddedContext, ContextRef, JobSpec, Result, SessionPlace, session_job_id
from rlm_dist.store import JobStore

_AT_ONCE = 64
_MOST_NAME_CHARS = 200
_MOST_ADDED = 1000


class SessionOwner(Protocol):
    """The client that made a session."""

    def store_encoded(self, encoded: Encoded) -> ContextRef:
        """Store a context."""

    def submit_in_session(
        self, place: SessionPlace, context: ContextRef, query: str, options: JobOptions
    ) -> Job | None:
        """Submit the job at a place of a session; None if that place is taken."""

    def job(self, job_id: str) -> Job:
        """A job that was submitted before."""


class SessionState(NamedTuple):
    """Where a session stands: the context, the options of its own, and the jobs up to now."""

    id: str
    context: ContextRef
    options: JobOptions
    jobs: int = 0
    added: tuple[AddedContext, ...] = ()


class Session:
    """Queries over one context that share a REPL; a context manager, after which it takes no more here.

    Its jobs stay stored as any others. Its id is enough for ``Client.reopen_session`` to continue it.
    """

    def __init__(self, owner: SessionOwner, jobs: JobStore, state: SessionState) -> None:
        self._owner = owner
        self._jobs = jobs
        self._state = state
        self._closed = False
        self.id = state.id

    def __repr__(self) -> str:
        return f"<Session {self.id}, {self._state.jobs} queries>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more queries here; what was submitted goes on."""
        self._closed = True

    def jobs(self) -> list[Job]:
        """The jobs of its queries up to now, in order."""
        return [self._owner.job(session_job_id(self.id, number)) for number in range(self._state.jobs)]

    def ask(self, query: str, *, timeout: float | None = None, **options: Unpack[SubmitOptions]) -> Result:
        """Submit a query, once the one before has ended, and wait for its result; ``timeout`` is in seconds.

        Raises:
            TimeoutError: if it, or the one before, has not ended in time; it keeps running.
            InputError, NotFound: as ``submit``.
        """
        if self._state.jobs:
            self._last_job().wait(timeout)
        return self.submit(query, **options).result(timeout)

    def submit(self, query: str, **options: Unpack[SubmitOptions]) -> Job:
        """Submit a query; ``options`` replace those of the session for this one.

        Raises:
            InputError: if query or options are bad, the query before has not ended, the session was closed
                here, or another process has asked meanwhile: reopen the session then.
            NotFound: if the session's retention is over.
        """
        self._check_open()
        state = self._state
        place = SessionPlace(
            id=state.id,
            position=state.jobs,
            added=state.added,
            options=state.options.model_dump(mode="json", exclude_none=True),
        )
        own = read_options(options).over(state.options)
        _check_options(own)
        self._keep(place)
        job = self._owner.submit_in_session(place, state.context, query, own)
        if job is None:
            raise InputError((f"session {self.id}: another process has asked meanwhile; reopen it",))
        self._state = state._replace(jobs=state.jobs + 1)
        return job

    def add(self, name: str, value: object) -> str:
        """Add a context, as the next query finds it; return the name of its variable: ``context_1``, ….

        ``name`` is shown to the model. ``value`` may be what ``Client.submit`` takes as a context.

        Raises:
            InputError: if the name or the value is bad, or the session was closed here.
        """
        self._check_open()
        state = self._state
        if not (name.strip() and name.isprintable() and len(name) <= _MOST_NAME_CHARS):
            raise InputError((f"name: must be one line of at most {_MOST_NAME_CHARS} characters",))
        if len(state.added) >= _MOST_ADDED:
            raise InputError((f"session {self.id}: at most {_MOST_ADDED:,} contexts can be added",))
        file = AddedContext(name=name, context=self._owner.store_encoded(encoded_context(value)))
        self._state = state._replace(added=(*state.added, file))
        info = state.context.info
        return f"context_{(info.items if info.several else 1) + len(state.added)}"

    def add_file(self, path: str | Path) -> str:
        """Add a file, or a folder as a list of documents, under its name; otherwise like ``add``."""
        return self.add(Path(path).name, Path(path))

    def _last_job(self) -> Job:
        return self._owner.job(session_job_id(self.id, self._state.jobs - 1))

    def _check_open(self) -> None:
        if self._closed:
            raise InputError((f"session {self.id}: it was closed here; reopen it",))

    def _keep(self, place: SessionPlace) -> None:
        """Check that the jobs before this place have ended, and restart their retention."""
        earlier = place.earlier_jobs
        try:
            self._jobs.keep(earlier)
            state = self._last_job().status() if earlier else None
        except NotFound:
            raise NotFound("session", self.id) from None
        if state is not None and not state.final:
            raise InputError((f"session {self.id}: its query {len(earlier)} has not ended yet",))


def _check_options(options: JobOptions) -> None:
    """Refuse what a session cannot run again; its cells' sub-calls are answered from what was stored.

    Raises:
        InputError: naming each such option.
    """
    refused = {
        "max_depth": (options.max_depth or 1) > 1,
        "samples": (options.samples or 1) > 1,
        "tools": bool(options.tools),
    }
    problems = tuple(f"{name}: cannot be used in a session" for name, is_set in refused.items() if is_set)
    if problems:
        raise InputError(problems)


def new_session_id() -> str:
    """A random id."""
    return f"s{uuid.uuid4().hex[:20]}"


def stored_session(jobs: JobStore, session_id: str) -> SessionState:
    """A session as its jobs are stored.

    Raises:
        NotFound: if it does not exist, or its retention is over.
    """
    specs: list[JobSpec | None] = []
    while not specs or specs[-1] is not None:
        page = [session_job_id(session_id, len(specs) + number) for number in range(_AT_ONCE)]
        specs += [record.spec if record else None for record in jobs.records(page)]
    while specs and specs[-1] is None:
        specs.pop()
    if not specs or None in specs:
        raise NotFound("session", session_id)
    last = specs[-1]
    assert last is not None
    assert last.session is not None  # its id says that it is of this session
    options = read_options(last.session.options)
    return SessionState(session_id, last.context, options, len(specs), last.session.added)


def encoded_context(context: object) -> Encoded:
    """A context of ``Client.submit``, ready to be stored."""
    if isinstance(context, Encoded):
        return context
    return encode_files([context]) if isinstance(context, Path) else encode(context)
