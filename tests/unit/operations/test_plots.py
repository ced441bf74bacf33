"""Plots show what was paid, as files that can be looked at; names in them are text."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlm_dist.errors import InputError
from rlm_dist.operations.plots import check_plot, plot_costs, plot_shares
from rlm_dist.schema import NANO, EndedJob, ModelCosts, Role

HOSTILE = "m$x^2_{$<script>\x1b[31m\u202e&"


def costs(model: str, cost: float | None, role: Role = Role.SUB) -> ModelCosts:
    return ModelCosts(
        role=role, model=model, calls=1, input_tokens=1, cached_tokens=0, output_tokens=1, cost=cost
    )


def ended(count: int) -> list[EndedJob]:
    return [
        EndedJob(job_id=f"j{n}", run_s=1.0, nanousd=NANO, tokens=1, ended_ms=60_000 * n)
        for n in reversed(range(count))
    ]


def comments(path: Path) -> list[str]:
    """The texts of an SVG, which matplotlib writes as comments beside their shapes."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    tree = ElementTree.parse(path, parser)
    found = (element for element in tree.iter() if callable(element.tag))
    return [element.text.strip() for element in found if element.text]


@pytest.mark.parametrize("name", ["costs.svg", "costs.png"])
def test_costs_are_drawn_with_any_name(tmp_path: Path, name: str) -> None:
    models = [costs("big", 2.0, Role.ROOT), costs(HOSTILE, 1.0), costs("free", None)]
    plot_costs(tmp_path / name, HOSTILE, models, ended(30))
    data = (tmp_path / name).read_bytes()
    assert data.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert b"<script" not in data
    if name.endswith("svg"):
        texts = comments(tmp_path / name)
        assert "root big" in texts
        assert "30 jobs" in texts
        assert "by role and model (1 without a price)" in texts


def test_one_job_has_only_its_models(tmp_path: Path) -> None:
    plot_costs(tmp_path / "one.svg", "j", [costs("m", 0.5)], [])
    assert "minutes since the first job ended" not in comments(tmp_path / "one.svg")


def test_the_same_numbers_give_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    shares = [("capacity 40", "rlm_dist", 0.95), ("capacity 40", "bare SDK", 0.4), ("noise", "rlm_dist", 1.0)]
    plot_shares(tmp_path / "a.png", "shares", shares)
    plot_shares(tmp_path / "b.png", "shares", shares)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_cannot_be_drawn_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_plot(tmp_path / "a.svg")
    with pytest.raises(InputError, match=r"must end in \.svg or \.png"):
        check_plot(tmp_path / "a.jpeg")
    with pytest.raises(InputError, match="cannot be written"):
        plot_costs(tmp_path / "missing" / "a.svg", "t", [], [])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install 'rlm-dist\[plot\]'"):
        check_plot(tmp_path / "a.svg")
