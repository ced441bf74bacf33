"""The progress of a batch as text."""

from collections.abc import Iterable, Iterator, Mapping

from rlm_dist.cli.limit_lines import limit_lines
from rlm_dist.cli.output import between, duration, money, usd
from rlm_dist.one_line import one_line
from rlm_dist.operations.forecast import Projection
from rlm_dist.operations.pace import Rates
from rlm_dist.operations.progress import WITHOUT_ANSWER, BatchView, Unanswered, ended, without_answer
from rlm_dist.operations.trace_text import calls
from rlm_dist.schema import BatchRecord, BatchState, Costs, JobState, Role

_BAR_CHARS = 20
_UNITS = {Role.ROOT: "slot", Role.SUB: "worker"}


def batch_lines(record: BatchRecord, snapshot: BatchView) -> Iterator[str]:
    """A batch as text."""
    total = "?" if record.total is None else f"{record.total:,}"
    why = f", {one_line(record.pause_reason)}" if record.pause_reason else ""
    yield f"batch {record.id}: {record.state}{why}"
    yield f"  progress {_bar(ended(record), record.total)}, {duration(snapshot.elapsed_s)}"
    counts = ", ".join(f"{count:,} {state}" for state, count in record.counts.items() if count)
    yield f"  jobs     {total}: {counts or 'none yet'}"
    for reason in snapshot.unanswered:
        yield f"  failed   {_reason(reason)}"
    if snapshot.workers and not snapshot.missing_workers:
        alive = (calls(count, f"{role} {_UNITS[role]}") for role, count in snapshot.workers.items())
        yield f"  workers  {', '.join(alive)}"
    for line in missing_lines(snapshot.missing_workers):
        yield f"  workers  {line}"
    yield f"  calls    {_calls(record, snapshot.rates)}"
    yield f"  used     {used(record.costs)}"
    yield f"  cost     {_cost(record.costs, snapshot.projection)}"
    max_tokens = [] if record.max_tokens is None else [f"{record.max_tokens:,} tokens"]
    max_usd = [] if record.max_usd is None else [money(record.max_usd)]
    if max_tokens or max_usd:
        yield f"  budget   {', '.join(max_tokens + max_usd)} for all jobs together"
    if snapshot.projection.left_s is not None and snapshot.projection.jobs_left:
        yield f"  left     about {between(snapshot.projection.left_s, duration)}"
    for line in limit_lines(snapshot.endpoints):
        yield f"  model    {line}"
    if record.tags:
        yield f"  tags     {tags_text(record.tags)}"
    if record.webhook is not None:
        yield f"  webhook  {record.webhook}"
    for slow in snapshot.slowest:
        yield (
            f"  slowest  {one_line(slow.custom_id)} ({slow.job.job_id}): {duration(slow.run_s)}, "
            f"{calls(slow.job.calls_in_flight, 'call')} in flight, {slow.job.tokens:,} tokens"
        )


def _bar(done: int, total: int | None) -> str:
    """A share as a bar and a percentage, rounded down, so that 100 % means all."""
    if not total:
        return f"{done:,} ended"
    filled = _BAR_CHARS * done // total
    return f"{'█' * filled}{'░' * (_BAR_CHARS - filled)} {100 * done // total} %"


def brief_line(record: BatchRecord, snapshot: BatchView) -> str:
    """A batch in one line, for a log."""
    states = [f"{record.counts[state]:,} {state}" for state in WITHOUT_ANSWER if record.counts.get(state)]
    failed = f" ({', '.join(states)})" if states else ""
    why = f": {one_line(record.pause_reason)}" if record.pause_reason else ""
    paused = f"paused{why}; " if record.state is BatchState.PAUSED else ""
    left_s = snapshot.projection.left_s
    away = [line for line in limit_lines(snapshot.endpoints) if "away" in line]
    return (
        f"{paused}{ended(record):,} of {record.total or 0:,} ended, "
        f"{without_answer(record):,} of them without an answer{failed}, "
        f"{record.counts.get(JobState.RUNNING, 0):,} running, {_calls(record, snapshot.rates)}, "
        f"{_cost(record.costs, snapshot.projection)}"
        + (f", about {between(left_s, duration)} left" if left_s and snapshot.projection.jobs_left else "")
        + "".join(f"; {line}" for line in (*missing_lines(snapshot.missing_workers), *away))
    )


def missing_lines(roles: Iterable[Role]) -> Iterator[str]:
    """What to do if no worker of a role is alive."""
    for role in roles:
        yield f"no {role} worker is running; rlm-dist worker {role} starts one, rlm-dist up both roles"


def _reason(unanswered: Unanswered) -> str:
    more = ", …" if unanswered.count > len(unanswered.first) else ""
    names = ", ".join(map(one_line, unanswered.first))
    return f"{unanswered.count:,} × {one_line(unanswered.reason)}: {names}{more}"


def tags_text(tags: Mapping[str, str]) -> str:
    """Tags in one line."""
    return ", ".join(f"{name}={value}" for name, value in tags.items())


def used(costs: Costs) -> str:
    """Calls and tokens by role."""
    return (
        f"root {calls(costs.root_llm_calls, 'call')}, {costs.root_llm_tokens:,} tokens; "
        f"sub {calls(costs.sub_llm_calls, 'call')}, {costs.sub_llm_tokens:,} tokens"
    )


def _calls(record: BatchRecord, rates: Rates | None) -> str:
    pace = f", {rates.calls:,.0f} calls/min, {rates.tokens:,.0f} tokens/min" if rates else ""
    costs = record.costs
    failures = f"{costs.failed_calls:,} failed, {costs.retries:,} retries, {costs.rate_limited:,} 429s"
    return f"{record.calls_in_flight:,} in flight{pace}, {failures}"


def _cost(costs: Costs, projection: Projection) -> str:
    so_far = f"{money(costs.total_cost)} so far"
    if projection.usd is None or not projection.jobs_left:
        return so_far
    return f"{so_far}, about {between(projection.usd, usd)} in total"
