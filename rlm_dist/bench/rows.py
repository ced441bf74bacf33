"""A row of the table: what was measured, beside what, and the bar that it is held to."""

import statistics
from collections.abc import Iterator, Sequence

from pydantic import Field

from rlm_dist.schema import Wire


class Figure(Wire):
    """One figure: ``bar`` is the number of the aim in issue 6's list, ``parts`` what the value is made of."""

    bar: int
    what: str
    value: float
    unit: str = ""
    aim: str
    parts: dict[str, float] = Field(default={})


def ratio(bar: int, what: str, pairs: Sequence[tuple[float, float]], aim: str) -> Figure:
    """The median of the ratios of ours to the other, measured in turns."""
    value = statistics.median(ours / other for ours, other in pairs)
    ours, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Figure(bar=bar, what=what, value=value, aim=aim, parts={"ours": ours, "other": other})


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def cells(rows: Sequence[Figure]) -> Iterator[list[str]]:
    """The rows as cells of a table, its head first."""
    yield ["bar", "what", "value", "aim", "measured"]
    for row in rows:
        parts = ", ".join(f"{name} {value:,.4g}" for name, value in row.parts.items())
        yield [str(row.bar), row.what, f"{row.value:,.3g} {row.unit}".rstrip(), row.aim, parts]
