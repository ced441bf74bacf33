"""The batch of one method: a job for each item, read from the file of items as a stream."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlm_dist.bench.quality.items import TaskItem, read_items
from rlm_dist.bench.quality_runs.methods import AUTO, METHODS, QualityMethod
from rlm_dist.bench.quality_runs.models import RootModel
from rlm_dist.bench.quality_runs.programs import rooms
from rlm_dist.bench.quality_runs.router import Router
from rlm_dist.client.batch_item import BatchItem, read_item
from rlm_dist.schema import CHARS_PER_TOKEN

_MOST_NAME_CHARS = 100


def options_for(
    method: QualityMethod, item: TaskItem, root: RootModel, instructions: str = ""
) -> dict[str, Any]:
    """The options of the item's job that the method sets; ``instructions`` are the user's own.

    Every method gets these: a program has them before its query, and they follow those of the method.
    """
    options = dict(method.options)
    if instructions and "instructions" in options:
        options["instructions"] += f"\n\n{instructions}"
    if method.program is not None:
        query = f"{instructions}\n\n{item.query}" if instructions else item.query
        options["program"] = method.program(query, rooms(root.window, CHARS_PER_TOKEN))
    if method.own_model:
        options["sub_model"] = root.name
    return options


def settings_for(method: QualityMethod, root: RootModel) -> dict[str, Any]:
    """The settings of the method's jobs that are no options."""
    if not method.shows_text:
        return dict(method.settings)
    shown = rooms(root.window, CHARS_PER_TOKEN).shown
    return {**method.settings, "max_output_chars": shown + 1_000}  # and the line above the text


class MethodJobs:
    """Checked jobs of one method, as ``Client.submit_checked`` takes them."""

    def __init__(
        self,
        path: Path,
        method: QualityMethod,
        root: RootModel,
        router: Router | None = None,
        *,
        instructions: str = "",
    ) -> None:
        self._path = path
        self._method = method
        self._root = root
        self._router = router
        self._instructions = instructions
        self.total = self.deepest = 0
        digest = hashlib.sha256()
        for item in read_items(path):
            given = self._line(item)
            self.total += 1
            self.deepest = max(self.deepest, given.get("max_depth", 0))
            del given["context"]
            digest.update(json.dumps(given, sort_keys=True).encode())
        self.digest = digest.hexdigest()

    def items(self) -> Iterator[BatchItem]:
        """The jobs in the order of the items."""
        return (read_item(self._line(item), Path()) for item in read_items(self._path))

    def not_shown(self, chars: int) -> int:
        """How many characters of an input of this length the method cuts from the chat."""
        shown = rooms(self._root.window, CHARS_PER_TOKEN).shown
        return max(0, chars - shown) if self._method.shows_text else 0

    def route(self, item: TaskItem) -> str:
        """The method that ``auto`` takes for the item; empty for other methods."""
        return self._router.route(item.tokens) if self._router and self._method.name == AUTO else ""

    def _line(self, item: TaskItem) -> dict[str, Any]:
        method = METHODS[self.route(item)] if self.route(item) else self._method
        options = options_for(method, item, self._root, self._instructions)
        return {"id": item.id, "query": item.query, "context": item.context, **options}


def batch_id_of(run_id: str, name: str) -> str:
    """The id of a method's batch: the same each time the run is taken up."""
    plain = "".join(char if char.isalnum() or char in "._-" else "." for char in name)
    return f"{run_id}-{plain}"[:_MOST_NAME_CHARS]
