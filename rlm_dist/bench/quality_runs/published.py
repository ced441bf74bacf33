"""What others have published for the same tasks and sizes, to stand beside a run's rows.

Only measured figures with their source are here. ``method`` is ours if it does the same; the model is
theirs. ``score`` is in percent, as published. The document on quality has this table, and a test compares.
"""

from collections.abc import Sequence

from rlm_dist.schema.base import Wire

V2 = "arXiv 2512.24601 v2, table 1"
V3 = "arXiv 2512.24601 v3, table 1"
DROSTE = "tensor-systems/droste at 79d41d5, benchmarks/results"


class PublishedFigure(Wire):
    """One published figure.

    It stands beside runs of ``least`` to ``most`` tokens. ``n`` is None if it is not given, as is ``cost``,
    the mean in USD of a question.
    """

    task: str
    size: str
    least: int
    most: int
    model: str
    method: str
    score: float
    n: int | None
    cost: float | None
    source: str


# The size, the least and the most tokens of a run that it stands beside, and the paper's number of items.
_SIZES: dict[str, tuple[str, int, int, int | None]] = {
    "code": ("23K to 4.2M", 23_000, 4_200_000, None),
    "multi-hop": ("1,000 documents, 6M to 11M", 6_000_000, 11_000_000, 150),
    "oolong": ("131K", 128_000, 132_000, 50),
    "oolong-pairs": ("32K", 32_000, 33_000, 20),
    "s-niah": ("32K", 32_000, 33_000, None),
}
_OF_TABLE = ("code", "multi-hop", "oolong", "oolong-pairs")
# A line: method, source, then score and cost for each of the four tasks.
_GPT_5: Sequence[tuple[str, str, tuple[tuple[float, float | None], ...]]] = (
    ("base", V2, ((24.0, 0.13), (0.0, None), (44.0, 0.14), (0.1, 0.16))),
    ("codeact-bm25", V2, ((22.0, 0.06), (51.0, 0.71), (38.0, 0.61), (24.7, 0.75))),
    ("summary", V2, ((58.0, 1.31), (70.5, 0.57), (46.0, 0.13), (0.1, 0.13))),
    ("rlm-no-calls", V2, ((58.0, 0.18), (88.0, 0.44), (36.0, 0.37), (43.9, 0.69))),
    ("rlm", V2, ((62.0, 0.11), (91.3, 0.99), (56.5, 0.43), (58.0, 0.33))),
    ("rlm-depth-2", V3, ((66.0, 0.15), (92.0, 0.55), (56.5, 1.10), (65.5, 0.33))),
    ("rlm, depth 3", V3, ((58.0, 0.15), (92.0, 0.51), (58.0, 0.51), (76.0, 0.39))),
)
# Task, items and folder; then method, model, score and cost. Runs of July 2026 with an artefact for each
# item; cost is the run's divided by its items. What could not run there is left out.
_TERRA, _SOL, _BOTH = "gpt-5.6-terra", "gpt-5.6-sol", "gpt-5.6-terra, sub gpt-5.6-luna"
_OF_DROSTE: Sequence[tuple[str, int, str, tuple[tuple[str, str, float, float], ...]]] = (
    (
        "oolong", 50, "oolong-trec-coarse-131k-2026-07-17",
        (("rlm", _BOTH, 64.3, 0.20), ("base", _SOL, 60.2, 0.52), ("base", _TERRA, 56.7, 0.25)),
    ),
    (
        "oolong-pairs", 20, "oolong-pairs-32k-2026-07-17",
        (("rlm", _BOTH, 80.2, 0.11), ("base", _TERRA, 3.4, 0.12)),
    ),
    (
        "multi-hop", 150, "browsecomp-plus-1k-2026-07-18; by a judge model, 56.0 by exact match",
        (("rlm", _BOTH, 94.0, 0.16),),
    ),
    (
        "code", 20, "longbench-v2-codeqa-20-2026-07-17",
        (("rlm", _BOTH, 65.0, 0.19), ("base", _SOL, 75.0, 0.98), ("base", _TERRA, 65.0, 0.45)),
    ),
    (
        "s-niah", 50, "sniah-32k-2026-07-17",
        (("rlm", _BOTH, 100.0, 0.01), ("base", _SOL, 84.0, 0.16), ("base", _TERRA, 100.0, 0.08)),
    ),
)  # fmt: skip


def _figure(
    task: str, model: str, method: str, score: float, cost: float | None, source: str, n: int | None = None
) -> PublishedFigure:
    size, least, most, papers_n = _SIZES[task]
    if source in (V2, V3):
        n = papers_n
    return PublishedFigure(
        task=task, size=size, least=least, most=most, model=model, method=method,
        score=score, n=n, cost=cost, source=source,
    )  # fmt: skip


PUBLISHED: tuple[PublishedFigure, ...] = (
    *(
        _figure(task, "GPT-5", method, score, cost, source)
        for place, task in enumerate(_OF_TABLE)
        for method, source, cells in _GPT_5
        for score, cost in (cells[place],)
    ),
    _figure("oolong", "GPT-5", "rlm", 56.0, None, V3),
    _figure("multi-hop", "GPT-5", "OpenCode with files", 94.0, None, V3),
    _figure("code", "Qwen3-Coder-480B", "rlm-no-calls", 66.0, 0.18, V2),
    *(
        _figure(task, model, method, score, cost, f"{DROSTE}/{source}", n)
        for task, n, source, lines in _OF_DROSTE
        for method, model, score, cost in lines
    ),
)


def beside(task: str, tokens: int) -> list[PublishedFigure]:
    """The figures of a task at this size."""
    return [figure for figure in PUBLISHED if figure.task == task and figure.least <= tokens <= figure.most]


def figure_cells(figure: PublishedFigure) -> tuple[str, ...]:
    """A figure as the cells of a row: task, size, method, model, n, score, cost and source."""
    return (
        figure.task,
        figure.size,
        figure.method,
        figure.model,
        "not given" if figure.n is None else f"{figure.n}",
        f"{figure.score:.1f}",
        "not given" if figure.cost is None else f"${figure.cost:.2f}",
        figure.source,
    )


FIGURE_HEAD = ("task", "size", "method", "model", "n", "score", "cost a question", "source")
