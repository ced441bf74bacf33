"""The child jobs of one run of one job: opened in the store, sent to their queue, and waited for.

A child's id follows from what is asked, so a job that is taken up again finds its children by id: those that
have ended are read, those that run are waited for. An entry in the job's reply stream says that a child has
ended; it is only a hint, as the children are looked at every few seconds too. A lost task is sent again by
the reaper, as that of any job.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rlm_dist.blobs.store import Blobs
from rlm_dist.contexts.encoded_files import EMPTY, describe, empty, pieces
from rlm_dist.errors import FailureKind, LimitExceeded
from rlm_dist.root_worker.named_models import NamedModels
from rlm_dist.root_worker.reply_waiter import ReplyWaiter
from rlm_dist.schema import (
    Answer,
    CallFailure,
    ContextRef,
    JobLimits,
    JobSpec,
    JobState,
    Outcome,
    Role,
)
from rlm_dist.schema.events import ChildrenAnswered, Emit
from rlm_dist.schema.id_lists import pack_ids
from rlm_dist.store import CallRefused, Store
from rlm_dist.worker.call_ids import CallIds
from rlm_dist.worker.failpoints import failpoint

_MOST_LIVE = 256  # children of one job that wait or run at a time
_AT_ONCE = 32
_MOST_CONTEXT_BYTES = 1 << 30
_READ_BLOCK_MS = 1000
_RECHECK_S = 3.0
_PARTIAL_CHARS = 500
_LEAST_S = 0.001
_AUTO = "auto"


class ChildJobs(ReplyWaiter):
    """Serves ``rlm_query`` for one run of one job; a ``Children`` of its sandbox.

    ``send`` puts the tasks of children on their queue; ``left_s`` is how long the job may still run, None if
    it has no limit. Contexts are in ``folder`` until they are complete. ``turn`` is that of the running cell.
    """

    def __init__(
        self,
        *,
        spec: JobSpec,
        epoch: int,
        store: Store,
        blobs: Blobs,
        resolve: Callable[[Role, str], str],
        send: Callable[[Sequence[JobSpec]], None],
        left_s: Callable[[], float | None],
        emit: Emit,
        folder: Path,
        max_context_bytes: int,
        part: str = "",
    ) -> None:
        super().__init__(spec.id)
        self.own = spec.context
        self.folder = folder
        self.max_context_bytes = min(max_context_bytes, _MOST_CONTEXT_BYTES)
        self.turn = 0
        self._spec = spec
        self._epoch = epoch
        self._store = store
        self._blobs = blobs
        self._send = send
        self._left_s = left_s
        self._emit = emit
        self._named_models = NamedModels(_with_child_models(spec), resolve)
        self._ids = CallIds(spec.id, part)
        self._numbers = itertools.count(1)
        self._live: set[str] = set()

    def store(self, file: BinaryIO, sha256: str, size_bytes: int) -> ContextRef:
        """Store an encoded context; it counts in what the job may store.

        Raises:
            InputError: the file is not one.
            LimitExceeded: the job has no room for it.
            BlobError: it cannot be stored.
        """
        ref = ContextRef(sha256=sha256, size_bytes=size_bytes, info=describe(file, size_bytes))
        patiently = self._store.connection.patiently
        patiently(lambda: self._blobs.put(lambda: pieces(file), sha256))
        stored = patiently(lambda: self._blobs.stored_bytes(sha256))
        self._store.jobs.use_blob(self._spec.id, sha256, stored)
        return ref

    def ask(
        self, prompts: Sequence[str], contexts: Sequence[ContextRef | None], model: str | None
    ) -> list[Answer]:
        """Run a child for each prompt, wait for all, and return their answers in order.

        A child that does not fit into a limit is not started: its answer is a failure of kind ``limit``, and
        ``take_limits`` returns the limit.

        Raises:
            ModelNotAllowed: if the job may not use ``model``.
            Superseded, Cancelled, Parked: if this run may not have children any more.
            RLMError: the error passed to ``abort``.
        """
        started = time.monotonic()
        name = self._model(model)
        nothing = self._empty() if None in contexts else self.own
        specs = [
            self._child(prompt, context or nothing, name)
            for prompt, context in zip(prompts, contexts, strict=True)
        ]
        answers = self._run_all(specs)
        failpoint("children.answered", self._spec.id)
        self._emit(
            ChildrenAnswered(
                turn=self.turn,
                children=len(answers),
                failed=sum(answer.failure is not None for answer in answers),
                seconds=time.monotonic() - started,
                job_ids=pack_ids(spec.id for spec in specs),
            )
        )
        return answers

    def rewind(self) -> None:
        """Give out ids from the start again, before the same cells are run again."""
        self._ids.rewind()
        self._numbers = itertools.count(1)

    def _model(self, name: str | None) -> str:
        """The root model of a child for which code names this model, or None."""
        models = self._spec.child_models
        if name is not None and name != _AUTO:
            return self._named_models.model(name)
        return models[min(self._spec.depth, len(models) - 1)] if models else self._spec.model

    def _child(self, prompt: str, context: ContextRef, model: str) -> JobSpec:
        spec = self._spec
        digest, number = self._ids.count(json.dumps(["rlm", model, prompt, context.sha256]))
        left_s = self._left_s()
        return JobSpec(
            id=f"j{digest}" + (f"n{number}" if number > 1 else ""),
            custom_id=f"{spec.custom_id}/{next(self._numbers)}",
            parent_id=spec.id,
            depth=spec.depth + 1,
            query=prompt,
            context=context,
            model=model,
            limits=JobLimits(
                max_iterations=spec.limits.max_iterations,
                max_seconds=None if left_s is None else max(left_s, _LEAST_S),
                max_depth=spec.limits.max_depth,
            ),
            **{name: getattr(spec, name) for name in _INHERITED},
        )

    def _empty(self) -> ContextRef:
        sha256 = hashlib.sha256(EMPTY).hexdigest()
        self._store.connection.patiently(lambda: self._blobs.put(lambda: [EMPTY], sha256))
        return empty(sha256)

    def _run_all(self, specs: Sequence[JobSpec]) -> list[Answer]:
        refused: dict[str, Answer] = {}
        ids = [spec.id for spec in specs]
        try:
            for start in range(0, len(specs), _AT_ONCE):
                piece = specs[start : start + _AT_ONCE]
                self._make_room(piece)
                refused |= self._open(piece)
            with self._changed:
                self._wait(lambda: self._live.isdisjoint(ids))
        finally:
            with self._changed:
                self._live.difference_update(ids)
                self._changed.notify_all()
        return [
            refused.get(job_id) or answer for job_id, answer in zip(ids, self._outcomes(ids), strict=True)
        ]

    def _make_room(self, piece: Sequence[JobSpec]) -> None:
        with self._changed:
            self._wait(lambda: not self._live or len(self._live) + len(piece) <= _MOST_LIVE)
            self._live.update(spec.id for spec in piece)
            self._start_reader()
            self._changed.notify_all()

    def _open(self, piece: Sequence[JobSpec]) -> dict[str, Answer]:
        """Open children and send their tasks; return the answers of those that do not fit into a limit."""
        states = self._store.children.open(self._spec.id, self._epoch, piece)
        failpoint("children.opened", self._spec.id)
        pairs = list(zip(piece, states, strict=True))
        waiting = [spec for spec, state in pairs if state is JobState.QUEUED]
        if waiting:
            self._send(waiting)
        failpoint("children.sent", self._spec.id)
        refused = {
            spec.id: self._refuse(spec, state) for spec, state in pairs if isinstance(state, CallRefused)
        }
        self._settle([*refused, *(spec.id for spec, state in pairs if _is_final(state))])
        return refused

    def _refuse(self, spec: JobSpec, refused: CallRefused) -> Answer:
        error = refused.error(spec.model)
        if not isinstance(error, LimitExceeded):
            raise error
        self._note_limit(error)
        failure = CallFailure(kind=FailureKind.LIMIT, message=f"not started: {error}")
        return Answer(call_id=spec.id, failure=failure)

    def _settle(self, ids: Sequence[str]) -> None:
        with self._changed:
            self._live.difference_update(ids)
            self._changed.notify_all()

    def _outcomes(self, ids: Sequence[str]) -> Iterator[Answer]:
        for start in range(0, len(ids), _AT_ONCE):
            piece = ids[start : start + _AT_ONCE]
            for job_id, outcome in zip(piece, self._store.children.outcomes(piece), strict=True):
                yield _answer(job_id, outcome)

    def _follow(self) -> None:
        while self._wait_for_children():
            self._follow_live()

    def _follow_live(self) -> None:
        """Follow the reply stream until no child is live."""
        cursor = str(self._store.connection.now_ms())
        self._recheck()  # what ended before the cursor
        checked = time.monotonic()
        while self._any_live():
            replies = self._store.calls.replies(self._spec.id, cursor, block_ms=_READ_BLOCK_MS)
            if replies:
                cursor = replies[-1].cursor
                self._settle([reply.call_id for reply in replies])
            if time.monotonic() - checked > _RECHECK_S:
                self._recheck()
                checked = time.monotonic()

    def _any_live(self) -> bool:
        with self._changed:
            return bool(self._live) and not self._closed

    def _wait_for_children(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._live))
            return not self._closed

    def _recheck(self) -> None:
        """Look at the live children in the store, as an entry of the stream may be lost."""
        with self._changed:
            ids = list(self._live)
        outcomes = zip(ids, self._store.children.outcomes(ids), strict=True)
        self._settle([job_id for job_id, outcome in outcomes if outcome is not None])


_INHERITED = (
    *("batch_id", "index", "sub_model", "sub_models", "child_models", "prompts", "max_output_chars"),
    *("early_final", "ask_at_limit", "on_divergence", "priority", "cache", "root_parameters"),
    *("sub_parameters", "broker_prefix", "compaction", "tools"),
)


def _with_child_models(spec: JobSpec) -> JobSpec:
    """The job, with the root models of its children among those that its code may name."""
    if spec.sub_models is None:
        return spec
    return spec.model_copy(update={"sub_models": (*spec.sub_models, *spec.child_models)})


def _is_final(state: JobState | CallRefused) -> bool:
    return isinstance(state, JobState) and state.final


def _answer(job_id: str, outcome: Outcome | None) -> Answer:
    if outcome is None:  # only of one that was not started
        failure = CallFailure(kind=FailureKind.INVALID, message="the child job is gone")
        return Answer(call_id=job_id, failure=failure)
    if outcome.state is JobState.SUCCEEDED:
        return Answer(call_id=job_id, text=outcome.answer or "")
    why = outcome.error.message if outcome.error else "no answer"
    partial = outcome.partial_answer
    if partial:
        head = partial[:_PARTIAL_CHARS] + (" …" if len(partial) > _PARTIAL_CHARS else "")
        why = f"{why}\nIts partial answer, which may be wrong, begins: {head}"
    return Answer(call_id=job_id, failure=CallFailure(kind=outcome.state, message=why))
