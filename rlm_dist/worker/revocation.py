"""Celery's ``revoke``: to revoke a root task, by its id or a stamp, is to cancel its job.

Celery's own ``revoke`` drops messages that a worker has yet to take, and with ``terminate`` kills the process
that runs the task. That process would take the journal's last lines, the REPL and its running calls with it,
the job would then go on elsewhere, and if the task had just ended, another job would be hit. Celery's
``revoke_by_stamped_headers`` also makes a worker drop whatever has the stamp, until that worker ends: a batch
that is retried would never run there.

So each worker, of either role, cancels the jobs in the store when it gets one of these commands. That is the
same for jobs that wait, run, or have been taken from the queue but not begun. The message of a cancelled job
does nothing, and its task ends as revoked.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from typing import Any

import structlog
from celery.worker import control
from celery.worker.control import control_command
from celery.worker.request import Request

from rlm_dist.broker.task_ids import job_of_root_task
from rlm_dist.errors import NotFound
from rlm_dist.settings import Settings
from rlm_dist.store import Store, connect

log = structlog.get_logger()
_IDS = {"variadic": "task_id", "signature": "[id1 [id2 [... [idN]]]]"}
_STAMPS = {"variadic": "headers", "signature": "[key1=value1 [key2=value2 [... [keyN=valueN]]]]"}


class UnstoppableRequest(Request):
    """A task that is not killed when it is revoked: its job is cancelled, and it ends by itself.

    A sub task belongs to a job that may not be cancelled; its calls would only be made again.
    """

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Do nothing."""

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Do nothing: at a cold shutdown Celery would kill the process of the task, which is a thread."""


def cancel_revoked_jobs(settings: Settings) -> None:
    """Let Celery's three commands that revoke tasks cancel jobs in this worker."""
    original: Any = control  # the stubs lack its commands

    @control_command(name="revoke", **_IDS)
    def revoke(state: Any, task_id: Any, **kwargs: Any) -> Any:
        """Cancel the jobs of these root tasks, and drop these tasks if they wait."""
        _cancel(settings, job_ids=filter(None, map(job_of_root_task, _texts(task_id))))
        return original.revoke(state, task_id, **kwargs)

    @control_command(name="terminate", args=[("signal", str)], **_IDS)
    def terminate(state: Any, signal: Any, task_id: Any, **kwargs: Any) -> Any:
        """Cancel the jobs of these root tasks; no process is killed."""
        return revoke(state, task_id, terminate=True, signal=signal, **kwargs)

    @control_command(name="revoke_by_stamped_headers", **_STAMPS)
    def revoke_by_stamped_headers(state: Any, headers: Any, **kwargs: Any) -> Any:
        """Cancel the jobs with these stamps (job, batch); other stamps are left to Celery."""
        stamps = _stamps(headers)
        job_ids, batch_ids = (_texts(stamps.pop(name, ())) for name in ("job", "batch"))
        _cancel(settings, job_ids=job_ids, batch_ids=batch_ids)
        if stamps:
            return original.revoke_by_stamped_headers(state, stamps, **kwargs)
        return {"ok": f"cancelled: {len(job_ids)} jobs and {len(batch_ids)} batches, if they had not ended"}


def _stamps(headers: Any) -> dict[str, Any]:
    if isinstance(headers, Mapping):
        return dict(headers)
    # "key=value", as Celery's command line sends them
    return dict(text.split("=", 1) for text in _texts(headers) if "=" in text)


def _texts(values: Any) -> list[str]:
    items = [values] if isinstance(values, str) else list(values or ())
    return [item for item in items if isinstance(item, str)]


def _cancel(settings: Settings, *, job_ids: Iterable[str] = (), batch_ids: Iterable[str] = ()) -> None:
    """Cancel jobs and batches that exist; Celery reports an error of the store to whoever revokes."""
    jobs, batches = list(job_ids), list(batch_ids)
    if not jobs and not batches:
        return
    assert settings.redis_url is not None  # make_app refuses to start without it
    # A connection for this one command: the process forks.
    with closing(connect(settings.redis_url, client_name="rlm-revoke")) as client:
        store = Store(client, retention_s=settings.retention_s)
        for job_id in jobs:
            with suppress(NotFound):
                state = store.jobs.cancel(job_id)
                log.info("job_revoked", job=job_id, state=state)
        for batch_id in batches:
            with suppress(NotFound):
                store.batches.cancel(batch_id)
                log.info("batch_revoked", batch=batch_id)
