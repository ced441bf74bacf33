"""``rlm-dist submit`` and ``results``: a batch in, its results out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from rlm_dist.batch_file import BatchFile
from rlm_dist.cli import options
from rlm_dist.cli.output import Output, json_line
from rlm_dist.cli.session import open_client
from rlm_dist.client import Client
from rlm_dist.errors import InputError
from rlm_dist.handles import result_of
from rlm_dist.models import JobRecord, JobState
from rlm_dist.openai_batch import openai_line
from rlm_dist.settings import load_settings

_PAGE = 500


def submit(
    file: Annotated[str, typer.Argument(metavar="FILE.jsonl", help="One job a line; - reads stdin.")],
    batch_id: Annotated[str | None, typer.Option(metavar="ID", help="The same id attaches.")] = None,
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Leave bad lines out.")] = False,
    model: options.Model = None,
    sub_model: options.SubModel = None,
    max_iterations: options.MaxIterations = None,
    max_usd: options.MaxUsd = None,
    max_tokens: options.MaxTokens = None,
    max_seconds: options.MaxSeconds = None,
    max_sub_calls: options.MaxSubCalls = None,
    batch_max_usd: options.BatchMaxUsd = None,
    batch_max_tokens: options.BatchMaxTokens = None,
    on_divergence: options.Divergence = None,
    cache: options.Cache = None,
    prompts: options.Prompts = None,
    as_json: options.Json = False,
) -> None:
    """Enqueue a batch and print its id. Models and limits are for the lines that do not set their own."""
    out = Output(as_json=as_json)
    defaults = options.given(
        model=model, sub_model=sub_model, max_iterations=max_iterations, max_usd=max_usd,
        max_tokens=max_tokens, max_seconds=max_seconds, max_sub_calls=max_sub_calls,
        batch_max_usd=batch_max_usd, batch_max_tokens=batch_max_tokens, on_divergence=on_divergence,
        cache=cache,
    )  # fmt: skip
    settings = load_settings()
    jobs = BatchFile(file, skip_invalid=skip_invalid, stdin=sys.stdin.buffer)
    for problem in jobs.problems:
        out.note(f"left out: {problem}")
    if jobs.ignored:
        out.note(f"without effect here: {', '.join(sorted(jobs.ignored))}")
    with open_client(settings, out, prompts=prompts) as client:
        batch = client.submit_checked(jobs, batch_id, **defaults)
        out.note(f"{jobs.total} jobs")
        document = {"batch_id": batch.id, "jobs": jobs.total, "left_out": jobs.bad_lines}
        out.result(document, lambda: [batch.id])


def results(
    batch: options.BatchId,
    output: options.OutFile = None,
    errors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Lines without an answer go there.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for all, in order of completion.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write a batch's results as JSON lines, in order of submission, as far as they are there."""
    out = Output(as_json=as_json)
    collected: list[object] = []
    with open_client(load_settings(), out) as client, ExitStack() as held:
        total = sum(client.store.batch(batch).counts.values())
        write = _writer(output, held) or (collected.append if as_json else _to_stdout)
        write_error = _writer(errors, held) or write
        written = failed = 0
        for record in _ended(client, batch, follow=follow):
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


def _ended(client: Client, batch_id: str, *, follow: bool) -> Iterator[JobRecord]:
    """The jobs of a batch that have ended; with ``follow`` each as it ends, until all have."""
    if follow:
        for result in client.batch(batch_id).results():
            yield client.store.job(result.id)
        return
    start = 0
    while job_ids := client.store.batch_jobs(batch_id, start, _PAGE):
        for job_id in job_ids:
            record = client.store.job(job_id)
            if record.state.final:
                yield record
        start += len(job_ids)


def _line(record: JobRecord) -> object:
    """A job's result in the shape that it was submitted in."""
    result = result_of(record)
    if record.spec.form == "openai":
        return openai_line(result, record.spec.model, created_s=(record.ended_ms or 0) // 1000)
    return result


def _writer(path: Path | None, held: ExitStack) -> Callable[[object], None] | None:
    if path is None:
        return None
    try:
        file: BinaryIO = held.enter_context(path.open("wb"))
    except OSError as error:
        raise InputError((f"{path}: cannot be written ({error.strerror})",)) from None
    return lambda document: _write(file, document)


def _write(file: BinaryIO, document: object) -> None:
    file.write(json_line(document) + b"\n")
    file.flush()  # --follow may be read by another program meanwhile


def _to_stdout(document: object) -> None:
    typer.echo(json_line(document))
