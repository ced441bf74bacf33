"""What is shown before money is spent: ``submit --dry-run`` and ``submit --pilot``."""

import sys
from collections.abc import Callable, Iterator

import typer

from rlm_dist.cli.output import CANCELLED, Output, between, clean, duration, money, usd
from rlm_dist.client.handles import Batch, Job
from rlm_dist.errors import InputError
from rlm_dist.operations.estimate import Estimate
from rlm_dist.operations.forecast import Pilot, Quantiles, pilot

_SAID_S = 10.0


def estimate_lines(told: Estimate) -> Iterator[str]:
    """What a batch is made of, as text."""
    yield f"jobs      {told.jobs:,}"
    yield f"contexts  {told.contexts:,} different, {told.context_chars:,} characters"
    yield f"at least  {told.floor_tokens:,} tokens, {money(told.floor_usd)}: one turn of the root model a job"
    reading = f"{told.reading_tokens:,} tokens, {money(told.reading_usd)}"
    yield f"reading   {reading}: the context of each job once by the sub model"
    yield "nothing was enqueued"


def run_pilot(batch: Batch, jobs: list[Job], total: int, out: Output) -> Pilot:
    """Wait for the jobs of a pilot and say what the whole will take."""
    with out.panel(every_s=_SAID_S) as show:
        for done, job in enumerate(jobs):
            show(f"pilot of batch {batch.id}: {done} of {len(jobs)} jobs have ended")
            job.result()
    told = pilot([job.record() for job in jobs], total - len(jobs))
    for line in pilot_lines(told):
        out.note(line)
    return told


def pilot_lines(told: Pilot) -> Iterator[str]:
    """What a pilot came to, as text."""
    yield "pilot: " + ", ".join(f"{count} {state}" for state, count in told.states.items())
    if told.tokens is None or told.run_s is None:
        return
    cost = "cost unknown" if told.usd is None else _each(told.usd, usd)
    yield "  one job, 10 % / 50 % / 90 % of them at most:"
    yield f"    {cost}; {_each(told.tokens, _count)} tokens; {_each(told.run_s, duration)}"
    if told.whole_tokens is not None:
        cost = "cost unknown" if told.whole_usd is None else f"about {between(told.whole_usd, usd)}"
        yield f"  the whole batch: {cost}, about {between(told.whole_tokens, _count)} tokens"
    if told.left_s is not None:
        left = between(told.left_s, duration)
        yield f"  the other jobs: about {left}, {told.at_once:.1f} at once as in the pilot"


def ask(left: int, how_to_go_on: str) -> None:
    """Ask whether the rest of a batch is to be submitted; returns where it is.

    Raises:
        InputError: where there is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise InputError((f"the other {left:,} jobs were not submitted; to go on: {how_to_go_on}",))
    # Not by typer.confirm: it writes to stdout, which is for the batch's id alone.
    typer.echo(f"Submit the other {left:,} jobs? [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo(clean(f"to go on later: {how_to_go_on}"), err=True)
        raise typer.Exit(CANCELLED)


def _each(told: Quantiles, shown: Callable[[float], str]) -> str:
    return " / ".join(shown(value) for value in (told.p10, told.p50, told.p90))


def _count(number: float) -> str:
    return f"{number:,.0f}"
