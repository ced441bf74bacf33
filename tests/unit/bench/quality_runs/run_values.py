"""Values for the tests of runs: rows, and a folder with a run."""

from pathlib import Path
from typing import Any

from rlm_dist.bench.quality.items import ScorerName, TaskItem, write_items
from rlm_dist.bench.quality_runs.folder import RunFolder, RunRecord
from rlm_dist.bench.quality_runs.models import RootModel
from rlm_dist.bench.quality_runs.rows import QualityRow
from rlm_dist.bench.quality_runs.tasks import TaskChoice


def row(item: str, method: str = "rlm", score: float = 1.0, **fields: Any) -> QualityRow:
    values = {"task": "oolong", "tokens": 1_000, "job_id": f"j-{method}-{item}", "answer": "a"}
    return QualityRow(method=method, item=item, score=score, **{**values, **fields})


def item(name: str, tokens: int = 1_000, task: str = "oolong") -> TaskItem:
    return TaskItem(
        id=name, task=task, context="c", query="q", expected=("a",), scorer=ScorerName.EXACT, tokens=tokens
    )


def record(*methods: str, **fields: Any) -> RunRecord:
    values = {
        "choice": TaskChoice(tasks=("oolong",), tokens=(1_000,), items=2),
        "root": RootModel(name="big", window=8_000, window_from="option"),
    }
    return RunRecord(methods=methods or ("rlm",), **{**values, **fields})


def run_folder(path: Path, run: RunRecord, items: list[TaskItem], rows: list[QualityRow]) -> RunFolder:
    """A folder as a run leaves it."""
    folder = RunFolder(path)
    with folder.held():
        write_items(path / "items.jsonl", items)
        (path / "run.json").write_text(run.model_dump_json())
        with folder.adding() as add:
            for each in rows:
                add(each)
    return folder
