"""A row of the table: what was measured, beside what, and the bar that it is held to."""

from collections.abc import Iterator, Sequence

from rlm_dist.models import Wire


class Row(Wire):
    """One figure. ``bar`` is its number in the list of aims, ``aim`` what it should be; ``parts`` are the
    measured values that it is made of."""

    bar: int
    what: str
    value: float
    unit: str
    aim: str
    parts: dict[str, float] = {}


def lines(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The rows as cells of a table, its head first."""
    yield ["bar", "what", "value", "aim", "measured"]
    for row in rows:
        parts = ", ".join(f"{name} {value:,.4g}" for name, value in row.parts.items())
        yield [str(row.bar), row.what, f"{row.value:,.3g} {row.unit}".rstrip(), row.aim, parts]
