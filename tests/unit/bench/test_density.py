"""What the benchmarks of density and of a long batch compute from what they have read."""

import pytest

from rlm_dist.bench.density import Density, documents, rows
from rlm_dist.bench.soak import Memory

DENSITY = Density(
    who="it", jobs=4, idle_mb=10.0, live_mb=30.0, idle_processes=2, processes=6, idle_threads=3, threads=11,
    first_s=(0.1, 0.2, 0.4, 0.5), cpu_ms=12.0, right=7,
)  # fmt: skip


def test_a_live_job_has_its_share_of_the_idle_system_and_what_it_adds() -> None:
    assert DENSITY.each_mb == 7.5
    assert DENSITY.added_mb == 5.0


def test_the_table_and_the_document_have_both() -> None:
    head, cells = rows([DENSITY])
    shown = dict(zip(head, cells, strict=True))
    assert (shown["a live job"], shown["of it added"]) == ("7.5 MB", "5.0 MB")
    assert (shown["processes"], shown["threads"]) == ("2 to 6", "3 to 11")
    assert shown["first request (median, last)"] == "0.30, 0.50 s"
    assert shown["right"] == "7 of 8"
    (document,) = documents([DENSITY])
    assert (document["each_mb"], document["added_mb"], document["who"]) == (7.5, 5.0, "it")


def test_the_growth_of_a_worker_is_that_since_the_early_jobs() -> None:
    """What it takes for its first jobs is no growth."""
    assert Memory(worker="root1", start_mb=50, early_mb=100, end_mb=110).growth == pytest.approx(1.1)
