"""A row of the table: what was measured, beside what, and the aim that it is held to."""

import statistics
from collections.abc import Iterator, Sequence
from enum import StrEnum

from pydantic import Field

from rlm_dist.schema import Wire


class Group(StrEnum):
    """What a row is about; ``bench speed --group`` takes these names."""

    FAN_OUT = "fan-out"
    ONE_CALL = "one-call"
    WORKERS = "workers"
    JOBS = "jobs"
    MEMORY = "memory"
    DENSITY = "density"
    CONTEXTS = "contexts"
    PEERS = "peers"
    GROWTH = "growth"
    METRICS = "metrics"
    WIDTH = "width"


class Figure(Wire):
    """One figure: its ``group``, its ``aim``, and in ``parts`` what the value is made of."""

    group: Group
    what: str
    value: float
    unit: str = ""
    aim: str
    parts: dict[str, float] = Field(default={})


def ratio(group: Group, what: str, pairs: Sequence[tuple[float, float]], aim: str) -> Figure:
    """The median of the ratios of ours to the other, measured in turns."""
    value = statistics.median(ours / other for ours, other in pairs)
    ours, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Figure(group=group, what=what, value=value, aim=aim, parts={"ours": ours, "other": other})


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def cells(rows: Sequence[Figure]) -> Iterator[list[str]]:
    """The rows as cells of a table, its head first."""
    yield ["group", "what", "value", "aim", "measured"]
    for row in rows:
        parts = ", ".join(f"{name} {value:,.4g}" for name, value in row.parts.items())
        yield [row.group, row.what, f"{row.value:,.3g} {row.unit}".rstrip(), row.aim, parts]
