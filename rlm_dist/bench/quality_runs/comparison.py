"""Two methods on the same items: the differences by item, with 95 % confidence intervals."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from rlm_dist.bench.quality_runs.rows import QualityRow
from rlm_dist.bench.quality_runs.statistics import FEW, PairedMean, paired
from rlm_dist.schema.base import Wire

ALL = "all"
Table = Callable[[Sequence[Sequence[str]]], Iterator[str]]


class QualityDifference(Wire):
    """Second minus first on the items that both have, of one task and length or of all (``tokens`` 0).

    ``cost`` is in USD, None if a price is unknown; ``run_s`` in seconds.
    """

    first: str
    second: str
    task: str
    tokens: int
    pairs: int
    score: PairedMean
    cost: PairedMean | None
    run_s: PairedMean | None


def differences(
    first: Sequence[QualityRow],
    second: Sequence[QualityRow],
    *,
    names: tuple[str, str],
    seed: int = 0,
) -> list[QualityDifference]:
    """The differences by task and length and, if there are several, over all; none without common items."""
    before, after = _by_item(first), _by_item(second)
    pairs = [(before[item], after[item]) for item in before if item in after]
    groups: dict[tuple[str, int], list[tuple[QualityRow, QualityRow]]] = defaultdict(list)
    for pair in pairs:
        groups[pair[0].task, pair[0].tokens].append(pair)
    found = [_difference(groups[key], key, names, seed) for key in sorted(groups)]
    if len(groups) > 1:
        found.append(_difference(pairs, (ALL, 0), names, seed))
    return found


def _by_item(rows: Sequence[QualityRow]) -> Mapping[str, QualityRow]:
    return {row.item: row for row in rows}


def _difference(
    pairs: Sequence[tuple[QualityRow, QualityRow]], key: tuple[str, int], names: tuple[str, str], seed: int
) -> QualityDifference:
    score = paired([one.score for one, _ in pairs], [other.score for _, other in pairs], seed=seed)
    assert score is not None  # there are pairs
    costs = [(one.cost, other.cost) for one, other in pairs]
    walls = [(one.run_s, other.run_s) for one, other in pairs]
    return QualityDifference(
        first=names[0], second=names[1], task=key[0], tokens=key[1], pairs=len(pairs),
        score=score, cost=_of_known(costs, seed), run_s=_of_known(walls, seed),
    )  # fmt: skip


def _of_known(values: Sequence[tuple[float | None, float | None]], seed: int) -> PairedMean | None:
    """The paired difference, if all values are known."""
    known = [(one, other) for one, other in values if one is not None and other is not None]
    if len(known) < len(values):
        return None
    return paired([one for one, _ in known], [other for _, other in known], seed=seed)


_HEAD = (
    "FIRST",
    "SECOND",
    "TASK",
    "TOKENS",
    "PAIRS",
    "SCORE",
    "95 % CI",
    "BETTER/WORSE",
    "$",
    "95 % CI",
    "SECONDS",
)


def difference_lines(found: Sequence[QualityDifference], table: Table, *, simulated: bool) -> Iterator[str]:
    """The differences as text."""
    if not found:
        yield "they have no items in common that have ended"
        return
    yield "Differences, second minus first, by item" + (" (simulated models)" if simulated else "")
    yield from table([_HEAD, *map(_cells, found)])
    if min(row.pairs for row in found) < FEW:
        yield f"intervals of fewer than {FEW} pairs say little"


def _cells(row: QualityDifference) -> tuple[str, ...]:
    score = row.score.difference
    cost = row.cost.difference if row.cost else None
    return (
        row.first,
        row.second,
        row.task,
        f"{row.tokens:,}" if row.tokens else ALL,
        f"{row.pairs}",
        f"{100 * score.mean:+.1f}",
        f"{100 * score.low:+.1f} to {100 * score.high:+.1f}",
        f"{row.score.higher}/{row.score.lower}",
        f"{cost.mean:+.4f}" if cost else "unknown",
        f"{cost.low:+.4f} to {cost.high:+.4f}" if cost else "",
        f"{row.run_s.difference.mean:+.1f}" if row.run_s else "unknown",
    )
