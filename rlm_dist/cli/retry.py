"""``rlm-dist retry``."""

from collections.abc import Iterable
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.client_session import open_client
from rlm_dist.cli.output import Output
from rlm_dist.cli.status import find_batch
from rlm_dist.errors import InputError
from rlm_dist.operations.trace_text import calls
from rlm_dist.settings import load_settings
from rlm_dist.store.batches import OWN_LIMITS


def retry(
    batch: options.BatchId,
    batch_max_usd: options.BatchMaxUsd = None,
    batch_max_tokens: options.BatchMaxTokens = None,
    raise_: Annotated[
        list[str] | None,
        typer.Option(
            "--raise",
            metavar="LIMIT=N",
            help="Include jobs that this limit of their own ended, with a higher one.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Rerun the jobs of a batch that have no answer; the calls they paid for are kept and still count."""
    out = Output(as_json=as_json)
    with open_client(load_settings(), out) as client:
        find_batch(client.store, batch)
        raised = _parse_limits(raise_ or ())
        job_count = client.retry(
            batch, batch_max_usd=batch_max_usd, batch_max_tokens=batch_max_tokens, raised=raised
        )
        state = client.store.batches.get(batch).state
        reasons = client.store.lists.reasons(batch)
    left_out = {reason: count for reason, count in reasons.items() if reason in OWN_LIMITS}
    document = {"id": batch, "state": state, "retried": job_count, "left_out": left_out}
    out.result(document, lambda: [f"{batch}: {calls(job_count, 'job')}"])
    for reason, count in left_out.items():
        out.note(f"{calls(count, 'job')} left out, ended by {reason}; to retry with more: --raise {reason}=…")


def _parse_limits(texts: Iterable[str]) -> dict[str, object]:
    """Limits written as ``name=number``.

    Raises:
        InputError: if one is not.
    """
    limits: dict[str, object] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            limits[name] = int(number) if number.isdecimal() else float(number)
        except ValueError:
            raise InputError((f"--raise: {name!r} must be LIMIT=NUMBER, as max_usd=0.5",)) from None
    return limits
