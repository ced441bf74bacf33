"""What the rest of a batch will take, told from what its ended jobs took. Arithmetic only.

The jobs that ended are taken for a random sample of all. What is left then is the mean times the number of
jobs left (a sum follows the mean, not the median), and its range is the 90 % prediction interval of a sum of
that many further jobs: their own spread, and the mean's uncertainty for so small a sample. Short jobs end
first, so that a projection made early in a batch is too low rather than too high.
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev

from rlm_dist.schema import NANO, EndedJob, JobRecord, JobState, Running, Wire

_Z = 1.645  # 90 % of a normal distribution lie within so many standard deviations


class Range(Wire):
    """A quantity that is not known yet; ``low`` and ``high`` are None where the sample shows no spread."""

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
    """What some jobs of a batch took, and what all would: money and tokens of the whole, time of the rest.

    Money is None where a price is unknown.
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
    """The end of a batch as it looks now: ``usd`` of the whole batch, ``left_s`` from now on."""

    jobs_left: int
    sample: int
    usd: Range | None
    left_s: Range | None


def rest(sample: Sequence[float], left: int, begun: Sequence[float] = ()) -> Range | None:
    """What ``left`` jobs will still take; the ``begun`` ones of them have taken that much already."""
    if not sample:
        return None
    mean = fmean(sample)
    likely = mean * left - sum(min(taken, mean) for taken in begun)
    if len(sample) < 2:
        return Range(likely=likely, low=None, high=None)
    half = _wide(len(sample)) * stdev(sample) * math.sqrt(left + left**2 / len(sample))
    return Range(likely=likely, low=max(0.0, likely - half), high=likely + half)


def quantiles(sample: Sequence[float]) -> Quantiles | None:
    """The quantiles of a sample, between two of its values where none is just there; None without sample."""
    if not sample:
        return None
    ordered = sorted(sample)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = ordered[math.floor(place)]
        return below + (ordered[math.ceil(place)] - below) * (place % 1)

    return Quantiles(p10=at(0.1), p50=at(0.5), p90=at(0.9))


def project(
    *, ended: Sequence[EndedJob], running: Sequence[Running], left: int, spent_usd: float | None, now_ms: int
) -> Projection:
    """The end of a batch: ``left`` jobs have not ended, and ``running`` are those of them under way.

    ``spent_usd`` is what the batch has spent up to now, None where a price is unknown. The time is that at
    the present number of jobs under way, unknown where there are none.
    """
    usd = rest([job.nanousd / NANO for job in ended], left, [job.nanousd / NANO for job in running])
    took_s = [job.run_s for job in ended if job.run_s is not None]
    left_s = rest(took_s, left, [(now_ms - job.started_ms) / 1000 for job in running])
    return Projection(
        jobs_left=left,
        sample=len(ended),
        usd=None if usd is None or spent_usd is None else usd.scaled(1, spent_usd),
        left_s=None if left_s is None or not running else left_s.scaled(1 / len(running)),
    )


def pilot(jobs: Sequence[JobRecord], left: int) -> Pilot:
    """What the ``left`` other jobs of a batch will take, if they are like these, and as many at once."""
    ran = [job for job in jobs if job.started_ms is not None and job.ended_ms is not None]
    run_s = [((job.ended_ms or 0) - (job.started_ms or 0)) / 1000 for job in ran]
    tokens = [float(job.costs.root_llm_tokens + job.costs.sub_llm_tokens) for job in ran]
    usd = [job.costs.total_cost for job in ran if job.costs.total_cost is not None]
    priced = usd if len(usd) == len(ran) else []
    span_s = (
        (max(job.ended_ms or 0 for job in ran) - min(job.started_ms or 0 for job in ran)) / 1000 if ran else 0
    )
    at_once = max(1.0, sum(run_s) / span_s) if span_s else None
    left_s = rest(run_s, left)
    return Pilot(
        states=Counter(job.state for job in jobs),
        usd=quantiles(priced),
        tokens=quantiles(tokens),
        run_s=quantiles(run_s),
        whole_usd=_whole(priced, left),
        whole_tokens=_whole(tokens, left),
        left_s=left_s.scaled(1 / at_once) if left_s and at_once else None,
        at_once=at_once,
    )


def _whole(sample: Sequence[float], left: int) -> Range | None:
    more = rest(sample, left)
    return more.scaled(1, sum(sample)) if more else None


def _wide(size: int) -> float:
    """The 95 % point of Student's distribution for a sample of this size, expanded at the normal one."""
    freedom = size - 1
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
