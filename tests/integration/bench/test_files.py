"""The benchmark of batch files at a small size: its figures come from real commands."""

from pathlib import Path

from rlm_dist.bench import files


def test_each_command_is_measured_and_the_second_submission_attaches(tmp_path: Path) -> None:
    rows = list(files.measure(tmp_path, lines=450, gigabytes=0.02))
    new, stored, attached, _, results, large = rows
    assert [row.told["new_jobs"] for row in rows] == [450, 450, 0, 0, 0, 2]
    assert all(row.peak_mb > 10 for row in rows)
    assert all(row.cpu_s > 0.1 for row in rows)
    # Jobs and results go a page at a time: one round trip for each of 450 jobs would show here.
    assert all(row.told["redis_reads"] < 200 for row in (new, stored, attached, results))
    assert large.told["jobs"] == 2
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 450
    assert all(len(cells) == 9 for cells in files.table_rows(rows))
