"""``rlm-dist submit`` and ``results``: a batch in, its results out."""

import shlex
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.client_session import open_client
from rlm_dist.cli.output import Output, json_line
from rlm_dist.cli.result_files import result_file
from rlm_dist.cli.trial import ask, estimate_lines, run_pilot
from rlm_dist.client.batch_file import BatchFile, file_rules
from rlm_dist.client.handles import result_of
from rlm_dist.client.job_specs import options_of
from rlm_dist.client.openai_batch import openai_line
from rlm_dist.client.options import read_batch_options
from rlm_dist.operations.estimate import estimate
from rlm_dist.schema import JobRecord, JobState
from rlm_dist.settings import load_settings


@options.takes_job_options
def submit(
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
    cap: options.Cap = False,
    context_root: options.ContextRoot = None,
    prompts: options.Prompts = None,
    as_json: options.Json = False,
) -> None:
    """Enqueue a batch and print its id. Models and limits are for the lines that do not set their own."""
    out = Output(as_json=as_json)
    asked = dict(job) | options.given(
        batch_max_usd=batch_max_usd, batch_max_tokens=batch_max_tokens, on_divergence=on_divergence,
        priority=priority, webhook=webhook, cache=cache,
    )  # fmt: skip
    settings = load_settings()
    _, of_jobs = read_batch_options(asked)
    jobs = BatchFile(
        file, skip_invalid=skip_invalid, stdin=sys.stdin.buffer,
        rules=file_rules(file, settings, context_root),
        ceilings=of_jobs.over(options_of(settings)) if cap else None,
    )  # fmt: skip
    _tell_left_out(jobs, out)
    if dry_run:
        family = settings.model_copy(update={"prompts": prompts or settings.prompts})
        told = estimate(jobs.items(), of_jobs, family)
        out.result(told.model_dump() | {"left_out": jobs.bad_lines}, lambda: estimate_lines(told))
        return
    if webhook is not None and settings.webhook_secret is None:
        out.note("RLM_WEBHOOK_SECRET is not set here: a worker without it sends the webhook unsigned")
    with open_client(settings, out, prompts=prompts) as client:
        tried = None
        if pilot is not None:
            batch, first = client.submit_pilot(jobs, pilot, batch_id, **asked)
            batch_id = batch.id
            tried = run_pilot(batch, first, jobs.total, out)
            if not yes and jobs.total > len(first):
                ask(jobs.total - len(first), f"rlm-dist submit {shlex.quote(file)} --batch-id {batch_id}")
        batch = client.submit_checked(jobs, batch_id, **asked)
        out.note(f"{jobs.total} jobs")
        document = {"batch_id": batch.id, "jobs": jobs.total, "left_out": jobs.bad_lines}
        out.result(document | ({"pilot": tried} if tried else {}), lambda: [batch.id])


def _tell_left_out(jobs: BatchFile, out: Output) -> None:
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
    with open_client(load_settings(), out) as client, ExitStack() as held:
        total = sum(client.store.batches.get(batch).counts.values())
        open_file = partial(result_file, grows=follow, force=force)
        write = (
            held.enter_context(open_file(output)) if output else collected.append if as_json else _to_stdout
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


def _to_stdout(document: object) -> None:
    typer.echo(json_line(document))
