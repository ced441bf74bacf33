"""``rlm-dist retry``."""

from rlm_dist.cli import options
from rlm_dist.cli.client_session import open_client
from rlm_dist.cli.output import Output
from rlm_dist.settings import load_settings


def retry(
    batch: options.BatchId,
    batch_max_usd: options.BatchMaxUsd = None,
    batch_max_tokens: options.BatchMaxTokens = None,
    as_json: options.Json = False,
) -> None:
    """Rerun the jobs of a batch that have no answer; the calls they paid for are kept and still count."""
    out = Output(as_json=as_json)
    with open_client(load_settings(), out) as client:
        job_count = client.retry(batch, batch_max_usd=batch_max_usd, batch_max_tokens=batch_max_tokens)
        state = client.store.batches.get(batch).state
        out.result(
            {"id": batch, "state": state, "retried": job_count}, lambda: [f"{batch}: {job_count} jobs"]
        )
