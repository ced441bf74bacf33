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


@dataclass(frozen=True)
class RunProgress:
    """How far one method is: ended jobs of all, the sum of their scores, and their cost in USD."""

    method: str
    ended: int
    total: int
    score: float
    cost: float | None


Show = Callable[[RunProgress], None]


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
        jobs = MethodJobs(self.items, method, self.record.root, router)
        client = self.client.with_settings(**settings_for(method, self.record.root))
        options: Mapping[str, Any] = self.record.options
        earlier = [row for row in self.folder.rows(self.rows) if row.method == method.name]
        batch_id = batch_id_of(self.record.id, self.name)
        if earlier:
            self._check_stored(batch_id)
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

    def _light_items(self) -> dict[str, TaskItem]:
        """The items by id, without their contexts, which would fill the memory."""
        return {item.id: item.model_copy(update={"context": ""}) for item in read_items(self.items)}
