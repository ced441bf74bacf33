"""The page on quality has the methods and published figures that the code has."""

import re

from rlm_dist.bench.quality_runs.methods import METHODS
from rlm_dist.bench.quality_runs.published import FIGURE_HEAD, PUBLISHED, beside, figure_cells
from rlm_dist.bench.quality_runs.tasks import TASKS
from tests.support.environment import PROJECT

PAGE = (PROJECT / "docs" / "quality.md").read_text()


def rows(heading: str) -> list[tuple[str, ...]]:
    """The cells of all rows of a section's tables, with their heads."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]


def test_the_page_has_each_published_figure_and_no_other() -> None:
    assert rows("Published figures") == [FIGURE_HEAD, *map(figure_cells, PUBLISHED)]


def test_the_page_has_each_method() -> None:
    assert rows("Methods")[1:] == [(f"`{each.name}`", each.description) for each in METHODS.values()]


def test_the_page_has_each_task() -> None:
    named = {name for row in rows("Run it") for name in re.findall(r"`(\w+)`", row[0])}
    assert set(TASKS) <= named


def test_figures_stand_beside_runs_of_their_size_alone() -> None:
    scores = {(figure.method, figure.score) for figure in beside("oolong", 131_072)}
    assert {("rlm", 56.0), ("rlm", 64.3), ("base", 44.0)} <= scores
    assert beside("oolong", 8_192) == []
    assert {figure.score for figure in beside("oolong-pairs", 32_768)} >= {58.0, 76.0, 80.2}
    assert beside("multi-hop", 32_768) == []
    assert {91.3, 94.0} <= {figure.score for figure in beside("multi-hop", 8_000_000)}
    assert 66.0 in {figure.score for figure in beside("code", 131_072)}


def test_every_figure_has_its_source() -> None:
    assert all(figure.source and 0 <= figure.score <= 100 for figure in PUBLISHED)
