"""Rows, tables and series of a report, by hand."""

from pathlib import Path

import pytest

from rlm_dist.bench.quality_runs.comparison import difference_lines, differences
from rlm_dist.bench.quality_runs.folder import BatchSummary
from rlm_dist.bench.quality_runs.models import RootModel
from rlm_dist.bench.quality_runs.report import (
    cost_series,
    make_report,
    report_lines,
    score_series,
    summary_of,
)
from rlm_dist.bench.quality_runs.router import Router
from rlm_dist.cli.output import table
from tests.unit.bench.quality_runs.run_values import item, record, row, run_folder


def test_a_row_of_the_report_is_the_sum_of_its_jobs() -> None:
    rows = [
        row("a", score=1.0, cost=0.1, root_calls=2, sub_calls=4, root_input_tokens=10, run_s=1.0),
        row("b", score=0.5, cost=0.2, root_calls=4, sub_calls=0, root_output_tokens=20, run_s=3.0),
        row("c", score=0.0, cost=0.6, answer=None, failure="max_iterations", left_out=7, run_s=None),
    ]
    found = summary_of(rows, asked=4)
    assert (found.asked, found.score.n, found.score.mean) == (4, 3, 0.5)
    assert found.right == 1.5
    assert found.per_right == pytest.approx(0.6)  # 0.9 USD for one and a half answers
    assert found.cost is not None
    assert found.cost.model_dump() == pytest.approx({"total": 0.9, "mean": 0.3, "median": 0.2, "p95": 0.56})
    assert [found.root_calls, found.sub_calls] == pytest.approx([2.0, 4 / 3])
    assert found.tokens_per_right == 20.0
    assert [found.wall_median_s, found.wall_p95_s] == pytest.approx([2.0, 2.9])
    assert (found.failures, found.cut) == ({"max_iterations": 1}, 1)


def test_money_that_is_not_known_is_not_zero() -> None:
    found = summary_of([row("a", cost=None), row("b", cost=0.1)], asked=2)
    assert found.cost is None
    assert found.per_right is None


def test_nothing_right_has_no_cost_of_a_right_answer() -> None:
    found = summary_of([row("a", score=0.0, cost=0.1)], asked=1)
    assert found.per_right is None
    assert found.tokens_per_right is None


def test_the_report_groups_by_task_length_and_method_in_the_order_of_the_run(tmp_path: Path) -> None:
    items = [item("a", 1_000), item("b", 131_072), item("c", 131_072)]
    rows = [
        row("b", "rlm", 1.0, tokens=131_072, cost=0.2),
        row("c", "rlm", 0.0, tokens=131_072, cost=0.4),
        row("a", "base", 1.0, cost=0.1),
        row("a", "rlm", 1.0, cost=0.1),
        row("a", "auto", 1.0, cost=0.1, route="base"),
    ]
    folder = run_folder(tmp_path, record("rlm", "base", "auto"), items, rows)
    folder.add_batch("rlm", BatchSummary(batch_id="b", models=("root big",), cost=0.7))
    folder.write_value("router.json", Router(threshold=2_048))
    report = make_report(folder)
    assert [(each.tokens, each.method, each.asked) for each in report.rows] == [
        (1_000, "rlm", 1),
        (1_000, "base", 1),
        (1_000, "auto", 1),
        (131_072, "rlm", 2),
    ]
    assert not report.simulated
    assert {figure.size for figure in report.published} == {"131K"}
    lines = list(report_lines(report, table))
    (line,) = [line for line in lines if "131,072  rlm " in line and "$" in line]
    assert line.split()[:5] == ["oolong", "131,072", "rlm", "2", "50.0"]
    assert "$0.6000" in line  # for one right answer
    assert any("auto (1 base)" in line for line in lines)
    assert "auto: base up to 2,048 tokens, rlm above; from a pilot of $0.0000" in lines
    assert any("64.3" in line and "$0.20" in line for line in lines)
    assert not any("simulated" in line.lower() for line in lines)


def test_every_table_of_simulated_models_says_so(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, record("rlm"), [item("a")], [row("a")])
    folder.add_batch("rlm", BatchSummary(batch_id="b", models=("sub simulated-sub",), cost=0.0))
    report = make_report(folder)
    assert report.simulated
    heads = [line for line in report_lines(report, table) if line.startswith(("Score", "Calls"))]
    assert len(heads) == 2
    assert all("(simulated models)" in line for line in heads)
    assert "(simulated models)" in next(
        difference_lines(differences([row("a")], [row("a")], names=("x", "y")), table, simulated=True)
    )


def test_the_variants_of_a_method_stand_beside_it(tmp_path: Path) -> None:
    """``base`` is another method, and a variant without results has no differences yet."""
    rows = [
        row("a", "rlm", 0.0),
        row("b", "rlm", 1.0),
        row("a", "rlm/coder", 1.0),
        row("b", "rlm/coder", 1.0),
        row("a", "base", 1.0),
    ]
    methods = record("rlm", "rlm/coder", "rlm/small", "base")
    report = make_report(run_folder(tmp_path, methods, [item("a"), item("b")], rows))
    (found,) = report.variants
    assert (found.first, found.second, found.pairs) == ("rlm", "rlm/coder", 2)
    assert found.score.difference.mean == 0.5
    (line,) = [line for line in report_lines(report, table) if "+50.0" in line]
    assert line.split()[:3] == ["rlm", "rlm/coder", "oolong"]
    assert make_report(run_folder(tmp_path / "other", record("base"), [item("a")], rows[-1:])).variants == ()


def test_a_run_without_results_says_so_and_one_under_way_says_how_far_it_is(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, record("rlm"), [item("a"), item("b")], [])
    assert list(report_lines(make_report(folder), table))[-1] == "no job has ended yet"
    with folder.adding() as add:
        add(row("a"))
    lines = list(report_lines(make_report(folder), table))
    assert any(" 1 of 2 " in line for line in lines)
    assert any("1 jobs of these rows have not ended" in line for line in lines)


def test_a_window_that_is_only_assumed_is_said_if_a_method_cuts_by_it(tmp_path: Path) -> None:
    assumed = record("base", root=RootModel(name="big", window=128_000, window_from="assumed"))
    folder = run_folder(tmp_path, assumed, [item("a")], [row("a", "base")])
    assert any("was assumed" in line for line in report_lines(make_report(folder), table))


def test_series_have_a_line_a_method_with_its_counts(tmp_path: Path) -> None:
    items = [item("a", 1_000), item("b", 2_000), item("c", 2_000)]
    rows = [
        row("a", "rlm", 1.0, cost=0.1),
        row("b", "rlm", 0.0, tokens=2_000, cost=0.3),
        row("c", "rlm", 1.0, tokens=2_000, cost=0.1),
        row("a", "base", 1.0, cost=None),
    ]
    report = make_report(run_folder(tmp_path, record("rlm", "base"), items, rows))
    scores = score_series(report, "oolong")
    assert list(scores) == ["rlm, n = 1 to 2", "base, n = 1"]
    assert [(point.tokens, point.value) for point in scores["rlm, n = 1 to 2"]] == [
        (1_000, 100.0),
        (2_000, 50.0),
    ]
    costs = cost_series(report, "oolong")
    assert list(costs) == ["rlm, n = 1 to 2"]
    assert costs["rlm, n = 1 to 2"][1].value == pytest.approx(0.2)
    assert score_series(report, "s-niah") == {}


def test_differences_are_of_items_that_both_have() -> None:
    first = [
        row("a", "base", 0.0, cost=0.1, run_s=1.0),
        row("b", "base", 1.0, cost=0.1, run_s=1.0),
        row("x", "base"),
    ]
    second = [
        row("b", "rlm", 1.0, cost=0.3, run_s=4.0),
        row("a", "rlm", 1.0, cost=0.2, run_s=2.0),
        row("y", "rlm"),
    ]
    (found,) = differences(first, second, names=("base", "rlm"))
    assert (found.pairs, found.score.difference.mean, found.score.higher, found.score.lower) == (2, 0.5, 1, 0)
    assert found.cost is not None
    assert found.cost.difference.mean == pytest.approx(0.15)
    assert found.run_s is not None
    assert found.run_s.difference.mean == pytest.approx(2.0)


def test_several_lengths_are_also_compared_together_and_unknown_money_stays_unknown() -> None:
    first = [row("a", cost=None), row("b", tokens=2_000, score=0.0)]
    second = [row("a"), row("b", tokens=2_000)]
    found = differences(first, second, names=("one", "two"))
    assert [(each.task, each.tokens, each.pairs) for each in found] == [
        ("oolong", 1_000, 1),
        ("oolong", 2_000, 1),
        ("all", 0, 2),
    ]
    assert [each.cost is None for each in found] == [True, False, True]
    assert list(difference_lines([], table, simulated=False)) == [
        "they have no items in common that have ended"
    ]
