"""Plots as SVG or PNG files, by matplotlib, which the extra ``plot`` installs."""

import importlib.util
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line
from rlm_dist.schema import DEFAULT_TIER, NANO, EndedJob, ModelCosts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES = (".svg", ".png")
_LABEL_CHARS = 40
_METADATA: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".png": {}}


def check_plot(path: Path) -> None:
    """Check that a plot can be written, before the work whose outcome it shows.

    Raises:
        InputError: if the file's name has another ending, or matplotlib is not installed.
    """
    if path.suffix not in _SUFFIXES:
        raise InputError((f"--plot {path}: must end in {' or '.join(_SUFFIXES)}",))
    try:
        import matplotlib.figure  # noqa: F401, PLC0415
    except ImportError:
        raise InputError(("--plot needs matplotlib: pip install 'rlm-dist[plot]'",)) from None


def plot_costs(path: Path, title: str, models: Sequence[ModelCosts], ended: Sequence[EndedJob]) -> None:
    """Draw the money by role and model and, for a batch, how it grew as its jobs ended."""
    figure = _figure(1.2 + 0.4 * max(4, len(models)))
    bars = figure.add_subplot(1, 2, 1) if ended else figure.add_subplot()
    priced = [line for line in models if line.cost is not None]
    bars.barh([_name(line) for line in priced], [line.cost or 0 for line in priced], color="#3b6fd4")
    bars.invert_yaxis()
    bars.set_xlabel("USD")
    unpriced = len(models) - len(priced)
    bars.set_title("by role and model" + (f" ({unpriced} without a price)" if unpriced else ""))
    if ended:
        jobs = sorted(ended, key=lambda job: job.ended_ms)
        minutes = [(job.ended_ms - jobs[0].ended_ms) / 60_000 for job in jobs]
        growth = figure.add_subplot(1, 2, 2)
        growth.step(minutes, [sum_ / NANO for sum_ in accumulate(job.nanousd for job in jobs)], where="post")
        growth.set_xlabel("minutes since the first job ended")
        growth.set_ylabel("USD of ended jobs")
        growth.set_ylim(bottom=0)
        growth.set_title(f"{len(jobs):,} jobs")
    _save(figure, path, title)


def plot_shares(path: Path, title: str, shares: Sequence[tuple[str, str, float]]) -> None:
    """Draw a bar for each (case, who, share), those of one case side by side."""
    cases = list(dict.fromkeys(case for case, _, _ in shares))
    people = list(dict.fromkeys(who for _, who, _ in shares))
    figure = _figure(1.5 + 0.5 * len(cases))
    axes = figure.add_subplot()
    height = 0.8 / len(people)
    for number, who in enumerate(people):
        values = {case: share for case, name, share in shares if name == who}
        positions = [row + height * (number - (len(people) - 1) / 2) for row in range(len(cases))]
        axes.barh(positions, [values.get(case, 0) for case in cases], height, label=who)
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.legend()
    _save(figure, path, title)


def plot_against_length(
    path: Path, title: str, label: str, series: Mapping[str, Sequence[tuple[int, float, float, float]]]
) -> None:
    """Draw a line for each name, by its points (tokens, value, low, high), over logarithmic lengths."""
    figure = _figure(5)
    axes = figure.add_subplot()
    for name, points in series.items():
        tokens, values, lows, highs = zip(*points, strict=True)
        below = [value - low for value, low in zip(values, lows, strict=True)]
        above = [high - value for value, high in zip(values, highs, strict=True)]
        axes.errorbar(tokens, values, yerr=(below, above), marker="o", capsize=3, label=_plain(name))
    axes.set_xscale("log", base=2)
    lengths = sorted({point[0] for points in series.values() for point in points})
    axes.set_xticks(lengths, [f"{tokens:,}" for tokens in lengths])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens")
    axes.set_ylabel(_plain(label))
    axes.legend()
    _save(figure, path, title)


def has_matplotlib() -> bool:
    """Whether plots can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to load

    return Figure(figsize=(10, height), layout="constrained")


def _name(line: ModelCosts) -> str:
    tier = "" if line.tier == DEFAULT_TIER else f" ({line.tier})"
    return _plain(f"{line.role} {line.model}"[:_LABEL_CHARS] + tier)


def _plain(text: str) -> str:
    """A text on one line; a dollar sign would begin a formula."""
    return one_line(text).replace("$", r"\$")


def _save(figure: "Figure", path: Path, title: str) -> None:
    figure.suptitle(_plain(title))
    try:
        figure.savefig(path, metadata=_METADATA[path.suffix])
    except OSError as error:
        raise InputError((f"{path}: cannot be written ({error.strerror})",)) from None
