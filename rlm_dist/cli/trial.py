"""What ``submit --dry-run`` and ``submit --pilot`` show before the whole batch is paid for."""

import sys
from collections.abc import Callable, Iterator

import typer

from rlm_dist.cli.output import CANCELLED, Output, between, clean, duration, money, usd
from rlm_dist.client.chat_request import Reading
from rlm_dist.client.handles import Batch, Job
from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line
from rlm_dist.operations.estimate import LONG_PROMPT_CHARS, Estimate
from rlm_dist.operations.forecast import Pilot, Quantiles, pilot
from rlm_dist.operations.trace_text import calls

_LINE_S = 10.0
_READINGS: dict[Reading, str] = {
    "native": "native line",
    "long": "long request: it is the context",
    "turns": "short request: the earlier messages are the context",
    "alone": "short request alone: it is also the context",
}


def estimate_lines(estimate: Estimate) -> Iterator[str]:
    """The estimate of a batch, as text."""
    floor = f"{estimate.floor_tokens:,} tokens, {money(estimate.floor_usd)}"
    reading = f"{estimate.reading_tokens:,} tokens, {money(estimate.reading_usd)}"
    yield f"jobs      {estimate.jobs:,}"
    if set(estimate.readings) != {"native"}:
        yield from _reading_lines(estimate)
    yield f"contexts  {estimate.contexts:,} different, {estimate.context_chars:,} characters"
    yield f"at least  {floor}: one turn of the root model for each job"
    yield f"reading   {reading}: if the sub model reads the context of each job once"
    if estimate.long_prompts:
        prompts = f"{calls(estimate.long_prompts, 'root prompt')} of over {LONG_PROMPT_CHARS:,} characters"
        more = ", …" if estimate.long_prompts > len(estimate.long_prompt_ids) else ""
        names = ", ".join(map(one_line, estimate.long_prompt_ids))
        yield f"warning   {prompts}, sent with every turn: {names}{more}"
        yield "          put a long text into the context; in a chat request, into the last user message"
    yield "nothing was enqueued"


def _reading_lines(estimate: Estimate) -> Iterator[str]:
    label = "read as"
    for reading, text in _READINGS.items():
        if reading in estimate.readings:
            yield f"{label:8}  {estimate.readings[reading]:,} × {text}"
            label = ""


def run_pilot(batch: Batch, jobs: list[Job], total: int, out: Output) -> Pilot:
    """Wait for the jobs of a pilot and write what the whole batch will take."""
    with out.panel(every_s=_LINE_S) as show:
        for ended, job in enumerate(jobs):
            show(f"pilot of batch {batch.id}: {ended} of {len(jobs)} jobs have ended")
            job.result()
    forecast = pilot([job.record() for job in jobs], total - len(jobs))
    for line in pilot_lines(forecast):
        out.note(line)
    return forecast


def pilot_lines(forecast: Pilot) -> Iterator[str]:
    """The results of a pilot, as text."""
    yield "pilot: " + ", ".join(f"{count} {state}" for state, count in forecast.states.items())
    if forecast.tokens is None or forecast.run_s is None:
        return
    cost = "cost unknown" if forecast.usd is None else _quantiles(forecast.usd, usd)
    yield "  per job (10th / 50th / 90th percentile):"
    yield f"    {cost}; {_quantiles(forecast.tokens, _count)} tokens; {_quantiles(forecast.run_s, duration)}"
    if forecast.whole_tokens is not None:
        cost = "cost unknown" if forecast.whole_usd is None else f"about {between(forecast.whole_usd, usd)}"
        yield f"  the whole batch: {cost}, about {between(forecast.whole_tokens, _count)} tokens"
    if forecast.left_s is not None:
        left = between(forecast.left_s, duration)
        yield f"  the other jobs: about {left}, with {forecast.at_once:.1f} at once as in the pilot"


def ask(jobs_left: int, command: str) -> None:
    """Ask whether to submit the rest of a batch; return if so, otherwise exit. ``command`` does it later.

    Raises:
        InputError: if there is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise InputError((f"the other {jobs_left:,} jobs were not submitted; to continue: {command}",))
    # Not typer.confirm, which writes to stdout: stdout is for the batch's id alone.
    typer.echo(f"Submit the other {jobs_left:,} jobs? [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo(clean(f"to continue later: {command}"), err=True)
        raise typer.Exit(CANCELLED)


def _quantiles(quantiles: Quantiles, text: Callable[[float], str]) -> str:
    return " / ".join(text(value) for value in (quantiles.p10, quantiles.p50, quantiles.p90))


def _count(number: float) -> str:
    return f"{number:,.0f}"
