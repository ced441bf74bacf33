"""What ``rlm-dist submit`` shows while it stores a batch, and what it says if it cannot or must not go on."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import typer

from rlm_dist.cli.output import CANCELLED, Output
from rlm_dist.client.batch_item import BatchItem
from rlm_dist.client.client import Client, JobSource
from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import BatchState
from rlm_dist.store import Store

_QUIET_S = 2.0  # a short submission shows no progress, except on a terminal
_LINE_S = 10.0  # between two lines of progress if there is no terminal
_LOOK_S = 0.5


class _Shown:
    """The jobs of a batch, whose progress into the store is shown while they are read."""

    def __init__(self, jobs: JobSource, store: Store, batch_id: str, out: Output) -> None:
        self.digest, self.total, self.deepest = jobs.digest, jobs.total, jobs.deepest
        self._jobs = jobs
        self._store = store
        self._batch_id = batch_id
        self._out = out
        self._panel = ExitStack()

    def items(self) -> Iterator[BatchItem]:
        """The jobs in order."""
        show = self._panel.enter_context(self._out.panel(every_s=_LINE_S))
        due = time.monotonic() + (0 if self._out.live else _QUIET_S)
        for item in self._jobs.items():
            if time.monotonic() >= due:
                stored = f"{jobs_stored(self._store, self._batch_id):,} of {self.total:,} jobs are stored"
                show(f"submitting batch {self._batch_id}: {stored}")
                due = time.monotonic() + _LOOK_S
            yield item
        self.close()

    def close(self) -> None:
        """Show no more."""
        self._panel.close()


@contextmanager
def storing(client: Client, jobs: JobSource, batch_id: str, out: Output) -> Iterator[JobSource]:
    """Yield the jobs to submit, and show their progress; Ctrl-C tells how to complete or cancel the batch.

    Raises:
        InputError: if the batch was cancelled.
        typer.Exit: on Ctrl-C.
    """
    refuse_cancelled(client, batch_id)
    shown = _Shown(jobs, client.store, batch_id, out)
    try:
        yield shown
    except KeyboardInterrupt:
        shown.close()
        stored = jobs_stored(client.store, batch_id)
        out.note(f"interrupted: {stored:,} of {jobs.total:,} jobs are submitted, to batch {batch_id}")
        if stored:
            out.note(f"to submit the others: the same command with --batch-id {batch_id}")
            out.note(f"to cancel it: rlm-dist cancel {batch_id}")
        if out.as_json:
            document = {"batch_id": batch_id, "jobs": stored, "total": jobs.total, "interrupted": True}
            out.result(document, list)
        raise typer.Exit(CANCELLED) from None
    finally:
        shown.close()


def refuse_cancelled(client: Client, batch_id: str) -> None:
    """Check that no batch of this id was cancelled: its jobs would not run.

    Raises:
        InputError: naming the command that runs them again.
    """
    try:
        batch = client.store.batches.get(batch_id)
    except NotFound:
        return
    if batch.state is BatchState.CANCELLED:
        rest = "" if batch.sealed else "; then this command submits the others"
        again = f"rlm-dist retry {batch_id} runs its jobs again{rest}"
        raise InputError((f"batch {batch_id} was cancelled: {again}",))


def jobs_stored(store: Store, batch_id: str) -> int:
    """How many jobs of a batch are in the store; 0 if there is no such batch."""
    try:
        return sum(store.batches.get(batch_id).counts.values())
    except NotFound:
        return 0
