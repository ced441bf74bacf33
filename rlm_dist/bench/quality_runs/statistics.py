"""Means with 95 % confidence intervals by the bootstrap, percentiles, paired differences.

All randomness comes from a seed, so that a report is the same each time it is made.
"""

import math
import random
from collections.abc import Sequence
from statistics import fmean

from rlm_dist.schema.base import Wire

RESAMPLES = 2_000
FEW = 10  # values; the bootstrap of fewer gives intervals that are too narrow
_Z2 = 1.959964**2  # of the normal distribution, for 95 %, squared


class Mean(Wire):
    """A mean over ``n`` values, with the bounds of its 95 % confidence interval."""

    n: int
    mean: float
    low: float
    high: float


class PairedMean(Wire):
    """The mean of differences (second minus first) over pairs, and how often the second was higher."""

    difference: Mean
    higher: int
    lower: int


def mean_of(values: Sequence[float], *, seed: int = 0) -> Mean | None:
    """The mean of shares from 0 to 1, or of other values; None if there are none.

    The bootstrap cannot say how far shares that are all 0, or all 1, may be from their mean. Wilson's bound
    stands for it: 10 of 10 is 1.0 from 0.72 on.
    """
    if not values:
        return None
    low, high = bootstrap(values, seed=seed)
    n = len(values)
    if all(value == 0 for value in values):
        high = _Z2 / (n + _Z2)
    elif all(value == 1 for value in values):
        low = n / (n + _Z2)
    return Mean(n=n, mean=fmean(values), low=low, high=high)


def bootstrap(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """The 2.5th and 97.5th percentiles of the means of ``RESAMPLES`` resamples."""
    rng = random.Random(f"bootstrap/{seed}/{len(values)}")
    n = len(values)
    means = [fmean(rng.choices(values, k=n)) for _ in range(RESAMPLES)]
    return percentile(means, 2.5), percentile(means, 97.5)


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile of at least one value, with linear interpolation between neighbours."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedMean | None:
    """The differences of two values of the same items, in the same order; None if there are none."""
    differences = [after - before for before, after in zip(first, second, strict=True)]
    if not differences:
        return None
    low, high = bootstrap(differences, seed=seed)
    return PairedMean(
        difference=Mean(n=len(differences), mean=fmean(differences), low=low, high=high),
        higher=sum(value > 0 for value in differences),
        lower=sum(value < 0 for value in differences),
    )
