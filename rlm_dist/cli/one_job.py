"""What ``rlm-dist run`` does: encode the context, find an endpoint and workers, and follow one job."""

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import typer

from rlm_dist.cli import options
from rlm_dist.cli.commands import without_collections
from rlm_dist.cli.follow import cost_note, follow, result_lines
from rlm_dist.cli.output import NOT_ISOLATED, Output, exit_code
from rlm_dist.cli.session import note_missing_workers, presence
from rlm_dist.cli.small_model import small_model
from rlm_dist.client.client import Client
from rlm_dist.contexts.encoding import Encoded, encode_files
from rlm_dist.errors import InputError
from rlm_dist.local.home import is_up
from rlm_dist.local.preload import Preload
from rlm_dist.one_line import one_line
from rlm_dist.operations.trace_text import vote_lines
from rlm_dist.schema import PromptFamily, Role
from rlm_dist.settings import Settings

_SHOWN_SKIPPED = 10


class OneJob(NamedTuple):
    """The arguments of the command that are about the job and its model."""

    context: list[str]
    query: str
    tags: Mapping[str, str]
    options: options.JobOptions
    prompts: PromptFamily | None
    local: bool


def run_job(job: OneJob, given: Settings, out: Output, preloaded: Preload | None) -> None:
    """Run it, show its outcome, and exit with its code."""
    encoded = _encode(job.context, out)
    with ExitStack() as held:
        settings, check = held.enter_context(endpoint_of(given, out, local=job.local, prompts=job.prompts))
        client = held.enter_context(Client(settings, preloaded=preloaded))
        check()
        if settings.redis_url is None and not is_up(settings.home):
            out.note("starting a root and a sub worker")
            if settings.sandbox == "off":
                out.note(NOT_ISOLATED)
        else:
            note_missing_workers(client.store, out)
        result = follow(client.submit(encoded, job.query, tags=job.tags, **job.options), out)
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
def endpoint_of(
    given: Settings, out: Output, *, local: bool, prompts: PromptFamily | None
) -> Iterator[tuple[Settings, Callable[[], object]]]:
    """Settings of the given endpoint, or of a local model which runs meanwhile; and a wait for its answer.

    To load the model client takes as long as to start a server, so a thread does it meanwhile.
    """
    up = presence(given.home) if given.redis_url is None else None
    if local:
        if up is not None or given.redis_url is not None:
            problem = "--local: there are workers already, which have their own model; leave it out"
            raise InputError((problem,))
        with small_model(given, out) as settings:
            yield settings.with_prompts(prompts), lambda: None
    elif up is not None:
        yield given.with_prompts(prompts or up.prompts), lambda: None
    else:
        with ThreadPoolExecutor(1) as thread:
            checked = thread.submit(_check, given)
            yield given.with_prompts(prompts), checked.result


def _check(settings: Settings) -> None:
    """Check that the endpoints of both roles answer."""
    with without_collections():  # loads the SDK, beside what else starts
        from rlm_dist.llm import check_endpoints  # noqa: PLC0415
        from rlm_dist.llm.endpoints import endpoints_of  # noqa: PLC0415

    root, sub = endpoints_of(settings, Role.ROOT), endpoints_of(settings, Role.SUB)
    check_endpoints(root)
    if [each.url for each in sub] != [each.url for each in root]:
        check_endpoints(sub)
