"""One line of ``results.jsonl``: what a method answered to an item, how right that is and what it took."""

from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.scorers import score
from rlm_dist.bench.quality_runs.programs import handed_in
from rlm_dist.client.handles import result_of
from rlm_dist.schema import JobRecord
from rlm_dist.schema.base import Wire

_KIND_CHARS = 60


class QualityRow(Wire):
    """An item under a method.

    ``left_out`` counts the characters of the input that were not shown, since they did not fit. ``route`` is
    the method that ``auto`` chose. ``failure`` says in a word why there is no answer, ``problem`` in more.
    ``cost`` and its parts are in USD, None if a price is unknown. ``run_s`` is None if the job never ran.
    """

    method: str
    item: str
    task: str
    tokens: int
    job_id: str
    score: float
    answer: str | None
    failure: str = ""
    problem: str = ""
    left_out: int = 0
    route: str = ""
    iterations: int = 0
    cost: float | None = 0.0
    root_cost: float | None = 0.0
    sub_cost: float | None = 0.0
    root_calls: int = 0
    sub_calls: int = 0
    root_input_tokens: int = 0
    root_output_tokens: int = 0
    sub_input_tokens: int = 0
    sub_output_tokens: int = 0
    pending_calls: int = 0
    run_s: float | None = None
    queued_s: float | None = None

    @property
    def used_tokens(self) -> int:
        """Input and output of both roles."""
        root = self.root_input_tokens + self.root_output_tokens
        return root + self.sub_input_tokens + self.sub_output_tokens


def row_of(
    method: str, item: TaskItem, record: JobRecord, *, route: str = "", not_shown: int = 0
) -> QualityRow:
    """The row of a job that has ended; ``not_shown`` counts the characters that its program cut."""
    result = result_of(record)
    answer, left_out, problem = handed_in(result.answer, result.answer_json)
    failure = problem.partition(":")[0][:_KIND_CHARS]
    if answer is None and not problem:
        failure = (record.outcome.reason if record.outcome else "") or str(record.state)
        problem = result.error.message if result.error else ""
    costs = result.costs
    return QualityRow(
        method=method,
        item=item.id,
        task=item.task,
        tokens=item.tokens,
        job_id=result.id,
        score=score(answer, item),
        answer=answer,
        failure=failure,
        problem=problem,
        left_out=left_out or not_shown,
        route=route,
        iterations=result.iterations,
        cost=costs.total_cost,
        root_cost=costs.root_llm_cost,
        sub_cost=costs.sub_llm_cost,
        root_calls=costs.root_llm_calls,
        sub_calls=costs.sub_llm_calls,
        root_input_tokens=costs.root_input_tokens,
        root_output_tokens=costs.root_output_tokens,
        sub_input_tokens=costs.sub_input_tokens,
        sub_output_tokens=costs.sub_output_tokens,
        pending_calls=costs.pending_calls,
        run_s=result.timing.run_s,
        queued_s=result.timing.queued_s,
    )
