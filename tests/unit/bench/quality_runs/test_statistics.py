"""Means, intervals, percentiles and paired differences, by hand."""

import pytest

from rlm_dist.bench.quality_runs.statistics import bootstrap, mean_of, paired, percentile


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 95, 5.0),
        ([1.0, 3.0], 50, 2.0),
        ([4.0, 1.0, 2.0, 3.0], 50, 2.5),
        ([0.0, 10.0, 20.0, 30.0, 40.0], 95, 38.0),  # position 3.8 of 0 to 4
        ([3.0, 1.0, 2.0], 0, 1.0),
        ([3.0, 1.0, 2.0], 100, 3.0),
    ],
)
def test_percentiles_are_interpolated(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


def test_the_interval_of_two_values_has_the_only_three_means_there_are() -> None:
    """Resamples of 0 and 1 have the means 0, 0.5 and 1, of which a quarter are 0 and a quarter 1."""
    assert bootstrap([0.0, 1.0]) == (0.0, 1.0)


def test_the_interval_of_fifty_halves_is_near_the_normal_one() -> None:
    """Standard error of 25 of 50: 0.0707; times 1.96: 0.139."""
    found = mean_of([0.0, 1.0] * 25)
    assert found is not None
    assert (found.n, found.mean) == (50, 0.5)
    assert found.low == pytest.approx(0.361, abs=0.03)
    assert found.high == pytest.approx(0.639, abs=0.03)


def test_the_same_seed_gives_the_same_interval_and_another_one_a_different_one() -> None:
    values = [0.1 * number for number in range(11)]
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_all_right_and_all_wrong_keep_a_width() -> None:
    """Wilson at 10 of 10: 10 / (10 + 1.96²) = 0.7225."""
    right, wrong = mean_of([1.0] * 10), mean_of([0.0] * 10)
    assert right is not None
    assert wrong is not None
    assert [right.low, right.high] == pytest.approx([0.7225, 1.0], abs=1e-4)
    assert [wrong.low, wrong.high] == pytest.approx([0.0, 0.2775], abs=1e-4)


def test_nothing_has_no_mean_and_no_difference() -> None:
    assert mean_of([]) is None
    assert paired([], []) is None


def test_paired_differences_are_second_minus_first() -> None:
    found = paired([0.0, 1.0, 0.5, 0.0], [1.0, 1.0, 0.0, 1.0])
    assert found is not None
    assert found.difference.mean == pytest.approx(0.375)  # (1 + 0 - 0.5 + 1) / 4
    assert (found.difference.n, found.higher, found.lower) == (4, 2, 1)
    assert found.difference.low < 0.375 < found.difference.high


def test_equal_differences_are_certain_however_the_values_spread() -> None:
    found = paired([1.0, 5.0, 9.0], [1.5, 5.5, 9.5])
    assert found is not None
    assert (found.difference.low, found.difference.high) == (0.5, 0.5)


def test_pairs_have_two_values_each() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])
