"""``rlm-dist run``: one job from start to end."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.follow import cost_note, follow, result_lines
from rlm_dist.cli.local import small_model
from rlm_dist.cli.output import NOT_ISOLATED, Output, exit_code
from rlm_dist.cli.session import note_missing_workers, presence
from rlm_dist.client.client import Client
from rlm_dist.client.tags import parse_tags
from rlm_dist.contexts.encoding import Encoded, encode_files
from rlm_dist.errors import InputError
from rlm_dist.llm import check_endpoints
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.local.cluster import is_up
from rlm_dist.one_line import one_line
from rlm_dist.operations.trace_text import vote_lines
from rlm_dist.schema import PromptFamily, Role
from rlm_dist.settings import Settings, load_settings

_SHOWN_SKIPPED = 10


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
    encoded = _encode(context, out)
    with ExitStack() as held:
        settings = held.enter_context(answering(given, out, local=local, prompts=prompts))
        client = held.enter_context(Client(settings))
        if settings.redis_url is None and not is_up(settings.home):
            out.note("starting a root and a sub worker")
            if settings.sandbox == "off":
                out.note(NOT_ISOLATED)
        else:
            note_missing_workers(client.store, out)
        result = follow(client.submit(encoded, query, tags=tags, **job), out)
    out.result(result, lambda: list(result_lines(result)))
    out.note(cost_note(result))
    for line in vote_lines(result.votes):
        out.note(line)
    if result.isolation == "none":
        out.note(NOT_ISOLATED)
    raise typer.Exit(exit_code(result.state))


def _encode(paths: list[str], out: Output) -> Encoded:
    """The context; the binary files of a folder are left out, and named."""
    skipped: list[str] = []
    try:
        return encode_files(paths, stdin=sys.stdin.buffer, skip=skipped.append)
    finally:
        for path in skipped[:_SHOWN_SKIPPED]:
            out.note(f"left out: {one_line(path)}: is not text in UTF-8")
        if len(skipped) > _SHOWN_SKIPPED:
            out.note(f"left out: {len(skipped) - _SHOWN_SKIPPED:,} more such files")


@contextmanager
def answering(
    given: Settings, out: Output, *, local: bool, prompts: PromptFamily | None
) -> Iterator[Settings]:
    """Settings whose endpoint answers: the given one, or that of a local model which runs meanwhile."""
    up = presence(given.home) if given.redis_url is None else None
    if local:
        if up is not None or given.redis_url is not None:
            problem = "--local: there are workers already, which have their own model; leave it out"
            raise InputError((problem,))
        with small_model(given, out) as settings:
            yield settings.with_prompts(prompts)
    elif up is not None:
        yield given.with_prompts(prompts or up.prompts)
    else:
        root, sub = endpoints_of(given, Role.ROOT), endpoints_of(given, Role.SUB)
        check_endpoints(root)
        if [each.url for each in sub] != [each.url for each in root]:
            check_endpoints(sub)
        yield given.with_prompts(prompts)
