"""``rlm-dist export``: the trajectories of a batch as a file for training."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.output import Output, write_json
from rlm_dist.cli.result_files import Write, result_file
from rlm_dist.cli.session import open_stores
from rlm_dist.cli.status import find_batch
from rlm_dist.errors import InputError
from rlm_dist.operations.trace_text import calls
from rlm_dist.operations.training_lines import (
    ExportCounts,
    Form,
    Only,
    Selection,
    TrainingForm,
    read_scores,
    training_lines,
)
from rlm_dist.settings import load_settings


def export(
    batch: options.BatchId,
    form: Annotated[
        Form,
        typer.Option(
            "--format", help="sft: a line a root turn; messages: a chat a job; jsonl: all that is known."
        ),
    ] = "jsonl",
    only: Annotated[Only | None, typer.Option(help="Leave the other jobs out; right needs --scores.")] = None,
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON lines of custom_id or job_id, and score; 1 is right."),
    ] = None,
    max_usd: Annotated[
        float | None, typer.Option(min=0, help="Leave out jobs that cost more, in USD.")
    ] = None,
    sub_calls: Annotated[
        bool, typer.Option("--sub-calls", help="With sft: answered sub-calls are samples too.")
    ] = False,
    output: options.OutFile = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the file without asking.")] = False,
) -> None:
    """Write the trajectories of a batch's jobs as JSON lines for training; they hold prompts and answers."""
    if only == "right" and scores is None:
        raise InputError(("--only right needs --scores FILE",))
    if sub_calls and form != "sft":
        raise InputError(("--sub-calls is an option of --format sft",))
    chosen = Selection(only, max_usd, read_scores(scores) if scores else {})
    out, counts = Output(), ExportCounts()
    with open_stores(load_settings()) as (store, payloads), ExitStack() as held:
        find_batch(store, batch)
        write: Write = write_json
        if output is not None:
            write = held.enter_context(result_file(output, grows=False, force=force, private=True))
        for line in training_lines(store, payloads, batch, TrainingForm(form, sub_calls), chosen, counts):
            write(line)
        if only == "right" and not counts.scored:
            raise InputError((f"{scores}: has no score for a job of batch {batch}",))
    out.note(f"{calls(counts.jobs, 'job')} exported, in {calls(counts.lines, 'line')}")
    if counts.left_out:
        out.note(f"{calls(counts.left_out.total(), 'job')} left out: {_reasons(counts.left_out)}")
    if counts.turns_left_out:
        out.note(
            f"{calls(counts.turns_left_out.total(), 'turn')} left out: {_reasons(counts.turns_left_out)}"
        )


def _reasons(left_out: Counter[str]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in left_out.most_common())
