"""``rlm-dist run``: one job from start to end; what it needs is loaded beside the workers."""

from contextlib import nullcontext
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.commands import without_collections
from rlm_dist.cli.output import Output
from rlm_dist.client.tags import parse_tags
from rlm_dist.errors import InputError
from rlm_dist.local.home import is_up
from rlm_dist.local.preload import preload
from rlm_dist.settings import load_settings


@options.takes_job_options
def run(
    context: Annotated[list[str], typer.Option(metavar="FILE…", help="Files, folders, or - for stdin.")],
    query: Annotated[str, typer.Option(metavar="TEXT", help="What to find out.")],
    job: options.JobOptions = options.NO_JOB_OPTIONS,
    tag: options.Tags = None,
    prompts: options.Prompts = None,
    local: options.Local = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer one query over a context. Without RLM_REDIS_URL it starts what it needs, and stops it."""
    out = Output(as_json=as_json, quiet=quiet)
    given = load_settings()
    if not query.strip():
        raise InputError(("--query: is empty",))
    tags = parse_tags(tag or ())
    needs_workers = given.redis_url is None and not is_up(given.home)
    with preload() if needs_workers else nullcontext() as preloaded:
        with without_collections():
            from rlm_dist.cli.one_job import OneJob, run_job  # noqa: PLC0415  # meanwhile the workers load

        one = OneJob(context, query, tags, job, prompts, local=local)
        run_job(one, given, out, preloaded)
