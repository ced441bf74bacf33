"""The forecast for the rest of a batch: the mean of ended jobs, with a range that is as safe as it claims."""

import math
import random

import pytest

from rlm_dist.operations.forecast import Quantiles, project, quantiles, rest
from rlm_dist.schema import NANO, EndedJob, Running


def ended(usd: float, run_s: float | None = 10.0, ended_ms: int = 0) -> EndedJob:
    return EndedJob(job_id="j", run_s=run_s, nanousd=round(usd * NANO), tokens=0, ended_ms=ended_ms)


def running(usd: float, started_ms: int) -> Running:
    return Running(
        job_id="r", batch_id="b", started_ms=started_ms, worker="w",
        calls_in_flight=0, nanousd=round(usd * NANO), tokens=0,
    )  # fmt: skip


def test_without_a_sample_nothing_is_told() -> None:
    assert rest([], 5) is None
    assert quantiles([]) is None
    outlook = project(ended=[], running=[], left=5, spent_usd=0.0, now_ms=0)
    assert (outlook.usd, outlook.left_s, outlook.jobs_left, outlook.sample) == (None, None, 5, 0)


@pytest.mark.parametrize(("size", "at_least"), [(1, 2.0), (2, 1.2), (20, 0.1), (1000, 0.001)])
def test_equal_jobs_give_a_range_that_is_wide_if_they_are_few(size: int, at_least: float) -> None:
    outlook = rest([2.0] * size, 980)
    assert outlook is not None
    assert outlook.likely == 1960.0
    assert outlook.high - outlook.likely > at_least * outlook.likely
    assert 0 <= outlook.low < outlook.likely


def test_the_time_left_follows_the_present_pace() -> None:
    """Early jobs ended ten a second, those of the last five minutes one in ten seconds."""
    now_ms = 1_000_000
    lately = [ended(0.0, ended_ms=now_ms - 10_000 * n) for n in range(30)]
    early = [ended(0.0, run_s=1.0, ended_ms=600_000 - 100 * n) for n in range(500)]
    outlook = project(
        ended=lately + early, running=[running(0.0, now_ms)], left=60, spent_usd=0.0, now_ms=now_ms
    )
    assert outlook.left_s is not None
    assert 600 <= outlook.left_s.likely <= 820
    assert outlook.left_s.low < 600 < 1000 < outlook.left_s.high


def test_a_batch_in_which_nothing_ends_any_more_takes_longer_and_longer() -> None:
    jobs = [ended(0.0, ended_ms=100_000 - 1000 * n) for n in range(50)]
    times = [
        project(ended=jobs, running=[running(0.0, 0)], left=10, spent_usd=0.0, now_ms=now_ms).left_s
        for now_ms in (1_000_000, 2_000_000)
    ]
    assert [time and round(time.likely / 1000, 1) for time in times] == [1.8, 3.8]


def test_the_rest_is_the_mean_times_the_jobs_left() -> None:
    outlook = rest([1.0, 1.0, 1.0, 5.0], 10)
    assert outlook is not None
    assert outlook.likely == 20.0


def test_what_running_jobs_have_taken_is_taken_off_and_a_hung_one_for_no_more_than_a_job() -> None:
    outlook = rest([2.0, 2.0], 3, begun=[0.5, 1000.0])
    assert outlook is not None
    assert outlook.likely == 6.0 - 0.5 - 2.0


@pytest.mark.parametrize(("sample", "left"), [(5, 20), (30, 300), (200, 50)])
def test_the_range_holds_nine_of_ten_sums(sample: int, left: int) -> None:
    """Over many batches with lognormal costs, the true sum lies in the range as often as claimed."""
    draw = random.Random(7)
    held = 0
    for _ in range(400):
        outlook = rest([draw.lognormvariate(0, 0.5) for _ in range(sample)], left)
        true = sum(draw.lognormvariate(0, 0.5) for _ in range(left))
        assert outlook is not None
        held += outlook.low <= true <= outlook.high
    assert 0.82 <= held / 400 <= (0.96 if sample > 5 else 0.99)


def test_quantiles_lie_between_values() -> None:
    assert quantiles([4.0]) == Quantiles(p10=4.0, p50=4.0, p90=4.0)
    outlook = quantiles([1.0, 2.0, 3.0, 4.0])
    assert outlook is not None
    assert (outlook.p50, round(outlook.p10, 9), round(outlook.p90, 9)) == (2.5, 1.3, 3.7)


def test_a_batch_is_projected_from_what_is_spent_and_the_jobs_under_way() -> None:
    outlook = project(
        ended=[ended(1.0), ended(1.0), ended(1.0, run_s=None)],
        running=[running(0.25, 6_000), running(0.75, 10_000)],
        left=6,
        spent_usd=4.0,
        now_ms=10_000,
    )
    assert outlook.usd is not None
    assert outlook.left_s is not None
    assert math.isclose(outlook.usd.likely, 4.0 + 6 * 1.0 - 1.0)
    assert math.isclose(outlook.left_s.likely, (6 * 10.0 - 4.0) / 2)


def test_an_unknown_price_projects_no_money_and_an_idle_batch_no_time() -> None:
    outlook = project(ended=[ended(0.0)], running=[], left=6, spent_usd=None, now_ms=0)
    assert (outlook.usd, outlook.left_s) == (None, None)
