"""Forecasts what the rest of a batch will take, from what its ended jobs took. Arithmetic only.

The ended jobs are treated as a random sample of all jobs. The rest will then take the mean times the number
of jobs left (a sum follows the mean, not the median). The range is the 90 % prediction interval of that sum:
it allows for the spread of the jobs left, and for the uncertainty of a mean from a small sample. A small
sample may have missed the dear jobs, so its spread is averaged with one as large as the mean, which counts as
two jobs. Short jobs end first, so a projection made early in a batch is too low rather than too high.

The time left follows the present pace: how many jobs ended in the last minutes.
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from rlm_dist.schema import NANO, EndedJob, JobRecord, JobState, Running, Wire

_Z = 1.645  # 90 % of a normal distribution lie within this number of standard deviations
_GUESSED = 2  # jobs that the guess of a small sample's spread counts as
_PACE_MS = 5 * 60_000
_PACE_JOBS = 5


class Range(Wire):
    """A forecast quantity, and the bounds between which nine of ten lie."""

    likely: float
    low: float
    high: float

    def scaled(self, factor: float, shift: float = 0.0) -> "Range":
        """Each bound times ``factor``, plus ``shift``."""
        likely, low, high = (bound * factor + shift for bound in (self.likely, self.low, self.high))
        return Range(likely=likely, low=low, high=high)


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
    freedom = len(sample) - 1 + _GUESSED
    squares = sum((amount - mean) ** 2 for amount in sample) + _GUESSED * mean**2
    half = _student_95(freedom) * math.sqrt(squares / freedom * (left + left**2 / len(sample)))
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

    ``ended`` lists the newest first. ``spent_usd`` is what the batch has spent so far, None if a price is
    unknown. The time assumes that jobs go on ending as in the last minutes or, in a batch that is too young
    for that, that as many jobs stay under way as now; it is None if there are none.
    """
    usd = rest([job.nanousd / NANO for job in ended], left, [job.nanousd / NANO for job in running])
    run_s = [job.run_s for job in ended if job.run_s is not None]
    left_s = rest(run_s, left, [(now_ms - job.started_ms) / 1000 for job in running])
    if left_s is not None and running:
        left_s = _at_pace(ended, left, now_ms) or left_s.scaled(1 / len(running))
    return Projection(
        jobs_left=left,
        sample=len(ended),
        usd=None if usd is None or spent_usd is None else usd.scaled(1, spent_usd),
        left_s=left_s if running else None,
    )


def _at_pace(ended: Sequence[EndedJob], left: int, now_ms: int) -> Range | None:
    """The time for ``left`` jobs if they go on ending as lately; None if the batch is too young to tell.

    Lately: in the last five minutes, or twice the time that a job takes, if that is more; and at least the
    last five jobs.
    """
    run_s = [job.run_s for job in ended[:_PACE_JOBS] if job.run_s is not None]
    two_jobs_s = 2 * fmean(run_s) if run_s else 0
    lately_ms = now_ms - max(_PACE_MS, 1000 * two_jobs_s)
    count = min(max(_PACE_JOBS, sum(job.ended_ms > lately_ms for job in ended)), len(ended) - 1)
    span_s = (now_ms - ended[count].ended_ms) / 1000 if ended else 0
    if left == 0 or count < _PACE_JOBS or span_s < two_jobs_s:
        return None
    likely = left * span_s / count
    factor = math.exp(_Z * math.sqrt(1 / count + 1 / left))
    return Range(likely=likely, low=likely / factor, high=likely * factor)


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


def _student_95(freedom: int) -> float:
    """The 95 % point of Student's t, by series expansion around the normal one."""
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
