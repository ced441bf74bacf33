"""Forecasts what the rest of a batch will take, from what its ended jobs took. Arithmetic only.

The ended jobs are treated as a random sample of all jobs. The rest will then take the mean times the number
of jobs left (a sum follows the mean, not the median). The range is the 90 % prediction interval of that sum:
it allows for the spread of the jobs left, and for the uncertainty of a mean from a small sample. Short jobs
end first, so a projection made early in a batch is too low rather than too high.
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev

from rlm_dist.schema import NANO, EndedJob, JobRecord, JobState, Running, Wire

_Z = 1.645  # 90 % of a normal distribution lie within this number of standard deviations


class Range(Wire):
    """A forecast quantity; ``low`` and ``high`` are None if the sample is too small to show a spread."""

    likely: float
    low: float | None
    high: float | None

    def scaled(self, factor: float, shift: float = 0.0) -> "Range":
        """Each bound times ``factor``, plus ``shift``."""
        low, high = (None if bound is None else bound * factor + shift for bound in (self.low, self.high))
        return Range(likely=self.likely * factor + shift, low=low, high=high)


class Quantiles(Wire):
    """What one job takes: a tenth of the jobs took at most ``p10``, half at most ``p50``, and so on."""

    p10: float
    p50: float
    p90: float


class Pilot(Wire):
    """What some jobs of a batch took, and a forecast: money and tokens of the whole batch, time of the rest.

    Money is None if a price is unknown.
    """

    states: dict[JobState, int]
    usd: Quantiles | None
    tokens: Quantiles | None
    run_s: Quantiles | None
    whole_usd: Range | None
    whole_tokens: Range | None
    left_s: Range | None
    at_once: float | None


class Projection(Wire):
    """A forecast of a running batch: ``usd`` for the whole batch, ``left_s`` from now until its end."""

    jobs_left: int
    sample: int
    usd: Range | None
    left_s: Range | None


def rest(sample: Sequence[float], left: int, begun: Sequence[float] = ()) -> Range | None:
    """What ``left`` jobs will still take; ``begun`` lists what those of them under way have taken so far."""
    if not sample:
        return None
    mean = fmean(sample)
    likely = mean * left - sum(min(amount, mean) for amount in begun)
    if len(sample) < 2:
        return Range(likely=likely, low=None, high=None)
    half = _student_95(len(sample)) * stdev(sample) * math.sqrt(left + left**2 / len(sample))
    return Range(likely=likely, low=max(0.0, likely - half), high=likely + half)


def quantiles(sample: Sequence[float]) -> Quantiles | None:
    """The quantiles of a sample, interpolated between its values; None if it is empty."""
    if not sample:
        return None
    ordered = sorted(sample)

    def at(share: float) -> float:
        position = share * (len(ordered) - 1)
        below = ordered[math.floor(position)]
        return below + (ordered[math.ceil(position)] - below) * (position % 1)

    return Quantiles(p10=at(0.1), p50=at(0.5), p90=at(0.9))


def project(
    *, ended: Sequence[EndedJob], running: Sequence[Running], left: int, spent_usd: float | None, now_ms: int
) -> Projection:
    """Forecast the end of a batch: ``left`` jobs have not ended, and ``running`` are those under way.

    ``spent_usd`` is what the batch has spent so far, None if a price is unknown. The time assumes that the
    number of jobs under way stays the same; it is None if there are none.
    """
    usd = rest([job.nanousd / NANO for job in ended], left, [job.nanousd / NANO for job in running])
    run_s = [job.run_s for job in ended if job.run_s is not None]
    left_s = rest(run_s, left, [(now_ms - job.started_ms) / 1000 for job in running])
    return Projection(
        jobs_left=left,
        sample=len(ended),
        usd=None if usd is None or spent_usd is None else usd.scaled(1, spent_usd),
        left_s=None if left_s is None or not running else left_s.scaled(1 / len(running)),
    )


def pilot(jobs: Sequence[JobRecord], left: int) -> Pilot:
    """Forecast the ``left`` other jobs of a batch, if they are like these and as many run at once."""
    ended_jobs = [job for job in jobs if job.started_ms is not None and job.ended_ms is not None]
    run_s = [((job.ended_ms or 0) - (job.started_ms or 0)) / 1000 for job in ended_jobs]
    tokens = [float(job.costs.root_llm_tokens + job.costs.sub_llm_tokens) for job in ended_jobs]
    costs = [job.costs.total_cost for job in ended_jobs if job.costs.total_cost is not None]
    usd = costs if len(costs) == len(ended_jobs) else []  # all prices are known, or none counts
    span_s = (
        (max(job.ended_ms or 0 for job in ended_jobs) - min(job.started_ms or 0 for job in ended_jobs)) / 1000
        if ended_jobs
        else 0
    )
    at_once = max(1.0, sum(run_s) / span_s) if span_s else None
    left_s = rest(run_s, left)
    return Pilot(
        states=Counter(job.state for job in jobs),
        usd=quantiles(usd),
        tokens=quantiles(tokens),
        run_s=quantiles(run_s),
        whole_usd=_whole(usd, left),
        whole_tokens=_whole(tokens, left),
        left_s=left_s.scaled(1 / at_once) if left_s and at_once else None,
        at_once=at_once,
    )


def _whole(sample: Sequence[float], left: int) -> Range | None:
    remainder = rest(sample, left)
    return remainder.scaled(1, sum(sample)) if remainder else None


def _student_95(size: int) -> float:
    """The 95 % point of Student's t for a sample of this size, by series expansion around the normal one."""
    freedom = size - 1
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
