"""``rlm-dist submit`` and ``results``: a batch in, its results out."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.client_session import open_client
from rlm_dist.cli.output import Output, write_json
from rlm_dist.cli.result_files import result_file
from rlm_dist.cli.status import find_batch
from rlm_dist.cli.submission import refuse_cancelled, storing
from rlm_dist.cli.trial import ask, estimate_lines, run_pilot
from rlm_dist.client.batch_file import BatchFile, file_rules
from rlm_dist.client.client import new_batch_id
from rlm_dist.client.handles import result_of
from rlm_dist.client.job_specs import options_of
from rlm_dist.client.openai_batch import openai_line
from rlm_dist.client.options import JobOptions, read_batch_options
from rlm_dist.client.tags import parse_tags
from rlm_dist.errors import InputError
from rlm_dist.operations.estimate import estimate
from rlm_dist.operations.unknown_prices import UnknownPrices
from rlm_dist.schema import JobRecord, JobState
from rlm_dist.settings import Settings, load_settings

_PILOT_OPTIONS = ("--pilot", "--batch-id")  # each with a value, as the next word


@options.takes_job_options
def submit(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE.jsonl", help="One job a line; - reads stdin.")],
    batch_id: Annotated[str | None, typer.Option(metavar="ID", help="The same id attaches.")] = None,
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Leave bad lines out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count; enqueue nothing.")] = False,
    pilot: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Run K jobs first, tell what all will take, and ask."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Told of the batch's end by a signed POST.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask after the pilot.")] = False,
    job: options.JobOptions = options.NO_JOB_OPTIONS,
    batch_max_usd: options.BatchMaxUsd = None,
    batch_max_tokens: options.BatchMaxTokens = None,
    on_divergence: options.Divergence = None,
    priority: options.First = None,
    cache: options.Cache = None,
    tag: options.Tags = None,
    cap: options.Cap = False,
    context_root: options.ContextRoot = None,
    prompts: options.Prompts = None,
    as_json: options.Json = False,
) -> None:
    """Enqueue a batch and print its id. Models and limits are for the lines that do not set their own."""
    out = Output(as_json=as_json)
    asked = dict(job) | options.given(
        batch_max_usd=batch_max_usd, batch_max_tokens=batch_max_tokens, on_divergence=on_divergence,
        priority=priority, webhook=webhook, cache=cache, tags=parse_tags(tag) if tag else None,
    )  # fmt: skip
    settings = load_settings()
    budget, of_jobs = read_batch_options(asked)
    prices = UnknownPrices(settings, of_jobs, limited=budget.max_nanousd is not None)
    jobs = BatchFile(
        file, skip_invalid=skip_invalid, stdin=sys.stdin.buffer, see=prices.see,
        rules=file_rules(file, settings, context_root),
        ceilings=of_jobs.over(options_of(settings)) if cap else None,
    )  # fmt: skip
    _note_left_out(jobs, out)
    if dry_run:
        family = settings.with_prompts(prompts)
        _show_estimate(jobs, of_jobs, family, prices, out)
        return
    prices.check()
    _note_unsigned(webhook, settings, out)
    batch_id = batch_id or new_batch_id()
    with open_client(settings, out, prompts=prompts) as client, storing(client, jobs, batch_id, out) as shown:
        tried = None
        if pilot is not None:
            batch, first = client.submit_pilot(shown, pilot, batch_id, **asked)
            tried, left = run_pilot(batch, first, jobs.total, out), jobs.total - len(first)
            if left and not yes:
                ask(left, _without_pilot(context.find_root().obj, batch_id))
        batch = client.submit_checked(shown, batch_id, **asked)
        refuse_cancelled(client, batch_id)  # it may have been cancelled meanwhile
        out.note(f"{jobs.total} jobs")
        document = {"batch_id": batch.id, "jobs": jobs.total, "left_out": jobs.bad_lines}
        out.result(document | ({"pilot": tried} if tried else {}), lambda: [batch.id])


def _without_pilot(words: Sequence[str], batch_id: str) -> str:
    """The command with these words for the other jobs of the batch: with all its options but the pilot."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and not word.startswith(("--pilot=", "--batch-id=")) and word not in _PILOT_OPTIONS:
            kept.append(word)
        skip = not skip and word in _PILOT_OPTIONS
    return shlex.join(["rlm-dist", *kept, "--batch-id", batch_id])


def _show_estimate(
    jobs: BatchFile, options_of_jobs: JobOptions, settings: Settings, prices: UnknownPrices, out: Output
) -> None:
    try:
        prices.check()
    except InputError as error:
        out.note(f"warning: {error}")
    estimated = estimate(jobs.items(), options_of_jobs, settings)
    out.result(estimated.model_dump() | {"left_out": jobs.bad_lines}, lambda: estimate_lines(estimated))


def _note_unsigned(webhook: str | None, settings: Settings, out: Output) -> None:
    if webhook is not None and settings.webhook_secret is None:
        out.note("RLM_WEBHOOK_SECRET is not set here: a worker without it sends the webhook unsigned")


def _note_left_out(jobs: BatchFile, out: Output) -> None:
    for problem in jobs.problems:
        out.note(f"left out: {problem}")
    if jobs.ignored:
        out.note(f"without effect here: {', '.join(sorted(jobs.ignored))}")


def results(
    batch: options.BatchId,
    output: options.OutFile = None,
    errors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Lines without an answer go there.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for all, in order of completion.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite files without asking.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write a batch's results as JSON lines, in order of submission, as far as they are there."""
    out = Output(as_json=as_json)
    collected: list[object] = []
    if output and errors and output.resolve() == errors.resolve() and not output.is_char_device():
        raise InputError(("--output and --errors name the same file; without --errors it holds all lines",))
    with open_client(load_settings(), out, needs_workers=follow) as client, ExitStack() as held:
        total = sum(find_batch(client.store, batch).counts.values())
        open_file = partial(result_file, grows=follow, force=force)
        write = (
            held.enter_context(open_file(output)) if output else collected.append if as_json else write_json
        )
        write_error = held.enter_context(open_file(errors)) if errors else write
        written = failed = 0
        handle = client.batch(batch)
        for record in handle.ended() if follow else handle.ended_in_order():
            succeeded = record.state is JobState.SUCCEEDED
            (write if succeeded else write_error)(_line(record))
            written, failed = written + 1, failed + (not succeeded)
        left = max(0, total - written)
    out.note(
        f"{written} results, {failed} of them without an answer" + (f"; {left} not ended yet" if left else "")
    )
    if as_json:
        document = {"batch_id": batch, "ended": written, "without_answer": failed, "not_ended": left}
        out.result(document | ({} if output else {"results": collected}), list)


def _line(record: JobRecord) -> object:
    """A job's result in the shape that it was submitted in."""
    result = result_of(record)
    if record.spec.form == "openai":
        return openai_line(result, record.spec.model, created_s=(record.ended_ms or 0) // 1000)
    return result
