"""The report of a run: a row for each task, length and method, as values, as text and as series for plots.

Cost per right answer is the headline: the money of all jobs of a row, also of those that failed, over the
sum of their scores. A score between 0 and 1 counts as such a part of a right answer.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean, median

from rlm_dist.bench.quality_runs.comparison import (
    QualityDifference,
    Table,
    difference_lines,
    differences,
)
from rlm_dist.bench.quality_runs.folder import RunFolder, RunRecord
from rlm_dist.bench.quality_runs.methods import RLM
from rlm_dist.bench.quality_runs.models import SIMULATED
from rlm_dist.bench.quality_runs.published import FIGURE_HEAD, PublishedFigure, beside, figure_cells
from rlm_dist.bench.quality_runs.router import Router, router_lines
from rlm_dist.bench.quality_runs.rows import QualityRow
from rlm_dist.bench.quality_runs.statistics import FEW, Mean, mean_of, percentile
from rlm_dist.schema.base import Wire

NO_NUMBER = "-"
_P95 = 95.0


class MoneySpread(Wire):
    """Costs of jobs in USD."""

    total: float
    mean: float
    median: float
    p95: float


class QualityRowSummary(Wire):
    """One row of the report: what a method reached on a task at a length.

    ``asked`` is the number of items, ``score.n`` of those whose jobs have ended. ``cost`` is None if a price
    is unknown, ``per_right`` also if nothing was right. Calls and tokens are means of a job. ``cut`` counts
    the inputs that did not fit and were cut, ``pending_calls`` the calls whose costs are still to come.
    """

    task: str
    tokens: int
    method: str
    asked: int
    score: Mean
    right: float
    per_right: float | None
    cost: MoneySpread | None
    root_calls: float
    sub_calls: float
    root_input_tokens: float
    root_output_tokens: float
    sub_input_tokens: float
    sub_output_tokens: float
    tokens_per_right: float | None
    wall_median_s: float | None
    wall_p95_s: float | None
    failures: dict[str, int]
    cut: int
    routed: dict[str, int]
    pending_calls: int


class QualityReport(Wire):
    """The report of a run; ``simulated`` says that its models were played.

    ``variants`` has what each variant of ``rlm`` that the run has changed, beside ``rlm`` itself.
    """

    run: RunRecord
    models: dict[str, tuple[str, ...]]
    simulated: bool
    rows: tuple[QualityRowSummary, ...]
    variants: tuple[QualityDifference, ...]
    router: Router | None
    published: tuple[PublishedFigure, ...]


def make_report(folder: RunFolder) -> QualityReport:
    """The report of a run as far as it is."""
    record, rows = folder.record(), folder.rows()
    asked = Counter((item.task, item.tokens) for item in folder.items())
    groups: dict[tuple[str, int, str], list[QualityRow]] = defaultdict(list)
    for row in rows:
        groups[row.task, row.tokens, row.method].append(row)
    order = {name: place for place, name in enumerate(record.methods)}
    keys = sorted(groups, key=lambda key: (key[0], key[1], order.get(key[2], len(order))))
    models = {name: batch.models for name, batch in folder.batches().items()}
    variants = [name for name in record.methods if name.startswith(f"{RLM}/")]
    figures = dict.fromkeys(figure for task, tokens, _ in keys for figure in beside(task, tokens))
    return QualityReport(
        run=record,
        models=models,
        simulated=is_simulated(record, models.values()),
        rows=tuple(summary_of(groups[key], asked=asked[key[:2]], seed=record.choice.seed) for key in keys),
        variants=tuple(each for name in variants for each in _changed(rows, name, record.choice.seed)),
        router=folder.read_value("router.json", Router),
        published=tuple(figures),
    )


def _changed(rows: Sequence[QualityRow], variant: str, seed: int) -> list[QualityDifference]:
    first, second = ([row for row in rows if row.method == name] for name in (RLM, variant))
    return differences(first, second, names=(RLM, variant), seed=seed)


def is_simulated(record: RunRecord, models: Iterable[Sequence[str]]) -> bool:
    """Whether a model of the run was played by the simulated endpoint."""
    names = [name.partition(" ")[2] for group in models for name in group]
    return any(name.startswith(SIMULATED) for name in [record.root.name, *names])


def summary_of(rows: Sequence[QualityRow], *, asked: int, seed: int = 0) -> QualityRowSummary:
    """The row of the report for the results, at least one, of one task, length and method."""
    scores = [row.score for row in rows]
    score = mean_of(scores, seed=seed)
    assert score is not None  # there are rows
    right = sum(scores)
    costs = [row.cost for row in rows if row.cost is not None]
    cost = _spread(costs) if len(costs) == len(rows) else None
    walls = [row.run_s for row in rows if row.run_s is not None]

    def mean(field: str) -> float:
        return fmean(getattr(row, field) for row in rows)

    return QualityRowSummary(
        task=rows[0].task,
        tokens=rows[0].tokens,
        method=rows[0].method,
        asked=asked,
        score=score,
        right=right,
        per_right=cost.total / right if cost and right else None,
        cost=cost,
        root_calls=mean("root_calls"),
        sub_calls=mean("sub_calls"),
        root_input_tokens=mean("root_input_tokens"),
        root_output_tokens=mean("root_output_tokens"),
        sub_input_tokens=mean("sub_input_tokens"),
        sub_output_tokens=mean("sub_output_tokens"),
        tokens_per_right=sum(row.used_tokens for row in rows) / right if right else None,
        wall_median_s=median(walls) if walls else None,
        wall_p95_s=percentile(walls, _P95) if walls else None,
        failures=dict(Counter(row.failure for row in rows if row.failure).most_common()),
        cut=sum(row.left_out > 0 for row in rows),
        routed=dict(Counter(row.route for row in rows if row.route).most_common()),
        pending_calls=sum(row.pending_calls for row in rows),
    )


def _spread(costs: Sequence[float]) -> MoneySpread:
    return MoneySpread(total=sum(costs), mean=fmean(costs), median=median(costs), p95=percentile(costs, _P95))


_HEAD = (
    "TASK",
    "TOKENS",
    "METHOD",
    "N",
    "SCORE",
    "95 % CI",
    "$/RIGHT",
    "TOKENS/RIGHT",
    "$ MEAN",
    "$ MEDIAN",
    "$ P95",
)
_USE_HEAD = (
    "TASK", "TOKENS", "METHOD", "N", "ROOT CALLS", "ROOT TOKENS", "SUB CALLS", "SUB TOKENS",
    "WALL MEDIAN", "WALL P95", "CUT", "NO ANSWER",
)  # fmt: skip
_MARK = "simulated"


def report_lines(report: QualityReport, table: Table) -> Iterator[str]:
    """The report as text; ``table`` aligns rows. Every table says if its models were simulated."""
    yield from _heading(report)
    if not report.rows:
        yield "no job has ended yet"
        return
    mark = f" ({_MARK} models)" if report.simulated else ""
    yield f"Score and cost{mark}"
    yield from table([_HEAD, *map(_score_cells, report.rows)])
    yield ""
    yield f"Calls, tokens and time of a job, on average{mark}"
    yield from table([_USE_HEAD, *map(_use_cells, report.rows)])
    if report.variants:
        yield ""
        yield from difference_lines(report.variants, table, simulated=report.simulated)
    if report.router:
        yield ""
        yield from router_lines(report.router)
    if report.published:
        yield ""
        yield "Published by others for these tasks and sizes, with their own models and data"
        cells = [figure_cells(figure) for figure in report.published]
        yield from table([tuple(name.upper() for name in FIGURE_HEAD), *cells])
    yield from _notes(report)


def _heading(report: QualityReport) -> Iterator[str]:
    run = report.run
    yield (
        f"run {run.id}, seed {run.choice.seed}, root model {run.root.name}, "
        f"window {run.root.window:,} tokens ({run.root.window_from})"
    )
    if report.simulated:
        yield "SIMULATED: the models were played by a script; these figures say nothing about a real model"


def _notes(report: QualityReport) -> Iterator[str]:
    unended = sum(row.asked - row.score.n for row in report.rows)
    pending = sum(row.pending_calls for row in report.rows)
    if min(row.score.n for row in report.rows) < FEW:
        yield f"intervals of fewer than {FEW} items say little"
    if unended:
        yield f"{unended} jobs of these rows have not ended: N is ended of asked"
    if pending:
        yield f"the costs of {pending} calls were not known yet when their jobs ended"
    if any(row.cost is None for row in report.rows):
        yield "a price is unknown: set RLM_PRICES to see money"
    if report.run.root.window_from == "assumed" and any(
        row.method in ("base", "summary", "codeact-bm25") for row in report.rows
    ):
        yield "the root model's window is not known here and was assumed: set --window or RLM_MODEL_WINDOWS"


def _score_cells(row: QualityRowSummary) -> tuple[str, ...]:
    cost = row.cost
    spread = (cost.mean, cost.median, cost.p95) if cost else (None, None, None)
    return (
        *_key_cells(row),
        f"{100 * row.score.mean:.1f}",
        f"{100 * row.score.low:.1f} to {100 * row.score.high:.1f}",
        _money(row.per_right, none="none right" if cost and not row.right else "unknown"),
        NO_NUMBER if row.tokens_per_right is None else f"{row.tokens_per_right:,.0f}",
        *(_money(value) for value in spread),
    )


def _use_cells(row: QualityRowSummary) -> tuple[str, ...]:
    return (
        *_key_cells(row),
        f"{row.root_calls:.1f}",
        f"{row.root_input_tokens + row.root_output_tokens:,.0f}",
        f"{row.sub_calls:.1f}",
        f"{row.sub_input_tokens + row.sub_output_tokens:,.0f}",
        _seconds(row.wall_median_s),
        _seconds(row.wall_p95_s),
        f"{row.cut}",
        ", ".join(f"{count} {kind}" for kind, count in row.failures.items()) or "0",
    )


def _key_cells(row: QualityRowSummary) -> tuple[str, ...]:
    n = f"{row.score.n}" if row.score.n == row.asked else f"{row.score.n} of {row.asked}"
    routed = ", ".join(f"{count} {name}" for name, count in row.routed.items())
    return row.task, f"{row.tokens:,}", f"{row.method} ({routed})" if routed else row.method, n


def _money(amount: float | None, none: str = "unknown") -> str:
    return none if amount is None else f"${amount:.4f}"


def _seconds(value: float | None) -> str:
    return NO_NUMBER if value is None else f"{value:.1f} s"


class PlotPoint(Wire):
    """A point of a plot: the length, the value and the bounds of its interval."""

    tokens: int
    value: float
    low: float
    high: float


def score_series(report: QualityReport, task: str) -> dict[str, list[PlotPoint]]:
    """The scores of a task in percent against the length, by method."""

    def point(row: QualityRowSummary) -> PlotPoint:
        low, high = 100 * row.score.low, 100 * row.score.high
        return PlotPoint(tokens=row.tokens, value=100 * row.score.mean, low=low, high=high)

    return _series([row for row in report.rows if row.task == task], point)


def cost_series(report: QualityReport, task: str) -> dict[str, list[PlotPoint]]:
    """The mean cost of a job in USD against the length, by method, up to the 95th percentile."""

    def point(row: QualityRowSummary) -> PlotPoint:
        assert row.cost is not None  # only such rows are given
        mean = row.cost.mean
        return PlotPoint(tokens=row.tokens, value=mean, low=mean, high=max(mean, row.cost.p95))

    return _series([row for row in report.rows if row.task == task and row.cost is not None], point)


def _series(
    rows: Sequence[QualityRowSummary], point: Callable[[QualityRowSummary], PlotPoint]
) -> dict[str, list[PlotPoint]]:
    """The points of each method, whose name says the number of items of a point."""
    series: dict[str, list[PlotPoint]] = {}
    for method in dict.fromkeys(row.method for row in rows):
        of_method = [row for row in rows if row.method == method]
        counts = sorted({row.score.n for row in of_method})
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        series[f"{method}, n = {n}"] = [point(row) for row in of_method]
    return series
