"""Runs the methods of a run as batches, one after another, so that no method's jobs slow another's.

A batch's id is made of the run's and the method's, and a job's of the batch's and the item's. So a run that
was stopped at any moment is taken up again: what was submitted is attached to, what has ended is only read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_dist.bench.quality.items import TaskItem, read_items
from rlm_dist.bench.quality_runs.folder import BatchSummary, RunFolder, RunRecord
from rlm_dist.bench.quality_runs.jobs import MethodJobs, batch_id_of, settings_for
from rlm_dist.bench.quality_runs.methods import AUTO, BASE, METHODS, RLM, QualityMethod, method_named
from rlm_dist.bench.quality_runs.router import Router, fit, pilot_choice
from rlm_dist.bench.quality_runs.rows import row_of
from rlm_dist.bench.quality_runs.tasks import OWN
from rlm_dist.client.client import Client
from rlm_dist.errors import InputError, NotFound

PILOT = "pilot"
_PAGE = 200


@dataclass(frozen=True)
class RunProgress:
    """How far one method is: ended jobs of all, the sum of their scores, and their cost in USD."""

    method: str
    ended: int
    total: int
    score: float
    cost: float | None


Show = Callable[[RunProgress], None]


def queue_of(record: RunRecord) -> str:
    """The prefix of the queues of the workers that the run starts itself.

    It is made of the run's id alone, so that a run that is taken up finds its jobs, also if its endpoint is
    at another address now. No other program's workers have it.
    """
    return f"rlm.{record.id}."


def is_complete(folder: RunFolder, record: RunRecord) -> bool:
    """Whether all batches of the run have ended, so that no client is needed."""
    return (folder.path / "items.jsonl").exists() and folder.batches().keys() >= set(record.methods)


def run_methods(client: Client, folder: RunFolder, record: RunRecord, show: Show) -> None:
    """Submit what is not submitted, and write a row for each job as it ends.

    Raises:
        InputError: the items cannot be made, or there is no worker for an option of a method.
    """
    items = folder.items_file(record.choice)
    router = _router(client, folder, record, show) if AUTO in record.methods else None
    for name in record.methods:
        if name not in folder.batches():
            _MethodBatch(client, folder, record, items, "results.jsonl", name).run(
                method_named(name), router, show
            )


def _router(client: Client, folder: RunFolder, record: RunRecord, show: Show) -> Router:
    """The router of the run; the pilot runs first, if it has not."""
    router = folder.read_value("router.json", Router)
    if router is not None:
        return router
    window = record.root.window
    choice = pilot_choice(record.choice, window)
    if choice is None:
        router = Router(threshold=0)
    else:
        items = folder.items_file(choice, "pilot-items.jsonl")
        for name in (BASE, RLM):
            batch = f"{PILOT}-{name}"
            if batch not in folder.batches():
                _MethodBatch(client, folder, record, items, "pilot.jsonl", batch).run(
                    METHODS[name], None, show
                )
        router = fit(folder.rows("pilot.jsonl"), window, own_items=OWN in choice.tasks)
    folder.write_value("router.json", router)
    return router


@dataclass(frozen=True)
class _MethodBatch:
    """One batch of a run and the file of rows that its results go to."""

    client: Client
    folder: RunFolder
    record: RunRecord
    items: Path
    rows: str
    name: str

    def run(self, method: QualityMethod, router: Router | None, show: Show) -> None:
        """Submit it, as far as it is not submitted, and follow it to its end."""
        options: Mapping[str, Any] = self.record.options
        hints = options.get("instructions") or ""
        jobs = MethodJobs(self.items, method, self.record.root, router, instructions=hints)
        client = self.client.with_settings(**settings_for(method, self.record.root))
        earlier = [row for row in self.folder.rows(self.rows) if row.method == method.name]
        batch_id = batch_id_of(self.record.id, self.name)
        if earlier:
            self._check_stored(batch_id)
        self._check_workers(batch_id)
        batch = client.submit_checked(jobs, batch_id, **options)
        items = self._light_items()
        known = {row.item for row in earlier}
        score = sum(row.score for row in earlier)
        show(RunProgress(self.name, len(known), jobs.total, score, batch.cost().total_cost))
        with self.folder.adding(self.rows) as add:
            for ended in batch.ended():
                item = items.get(ended.spec.custom_id)
                if item is None or item.id in known:
                    continue
                not_shown = jobs.not_shown(ended.spec.context.info.chars)
                row = row_of(method.name, item, ended, route=jobs.route(item), not_shown=not_shown)
                add(row)
                known.add(item.id)
                score += row.score
                show(RunProgress(self.name, len(known), jobs.total, score, batch.cost().total_cost))
        models = client.store.batches.model_costs(batch.id)
        named = tuple(dict.fromkeys(f"{line.role} {line.model}" for line in models))
        summary = BatchSummary(batch_id=batch.id, models=named, cost=batch.cost().total_cost)
        self.folder.add_batch(self.name, summary)

    def _check_stored(self, batch_id: str) -> None:
        """Check that the store still has a batch that was begun: else its jobs would be paid for again."""
        try:
            self.client.store.batches.get(batch_id)
        except NotFound:
            gone = f"batch {batch_id} of this run is no longer in the store; its results are kept"
            raise InputError((f"{gone}: begin another run, with -o",)) from None

    def _check_workers(self, batch_id: str) -> None:
        """Check that the workers of this client are those that the jobs not ended yet wait for."""
        store = self.client.store
        start, own = 0, self.client.settings.broker_prefix
        while job_ids := store.batches.job_ids(batch_id, start, _PAGE):
            start += len(job_ids)
            for job in store.jobs.records(job_ids):
                if job and not job.state.final and job.spec.broker_prefix != own:
                    raise InputError((_other_workers(batch_id, job.spec.broker_prefix, own),))

    def _light_items(self) -> dict[str, TaskItem]:
        """The items by id, without their contexts, which would fill the memory."""
        return {item.id: item.model_copy(update={"context": ""}) for item in read_items(self.items)}


def _other_workers(batch_id: str, theirs: str, own: str) -> str:
    """Why jobs of a batch would wait for ever: the prefixes are those of their queues and of this client."""
    waiting = f"batch {batch_id} of this run has jobs that"
    if not theirs:
        return f"{waiting} wait for the workers of rlm-dist up: start it for this RLM_HOME, then go on"
    if not own:
        return f"{waiting} wait for workers that this command starts itself: end rlm-dist up, then go on"
    return (
        f"{waiting} were begun with another endpoint, key or setting: go on with those, or begin another run"
    )
