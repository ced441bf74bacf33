"""``rlm-dist doctor``: what works here, what does not, and how to fix it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import redis
import typer

from rlm_dist.blobs.store import open_blobs
from rlm_dist.cli import options
from rlm_dist.cli.limit_lines import limit_lines
from rlm_dist.cli.output import DONE, FAILED, UNREACHABLE, Output
from rlm_dist.llm import check_endpoint
from rlm_dist.llm.trial_call import try_call
from rlm_dist.local.cluster import with_redis
from rlm_dist.operations.doctor import Check, OpenStores, Probes, check_lines, check_variables, examine
from rlm_dist.operations.progress import missing_workers
from rlm_dist.sandbox.probe import choose
from rlm_dist.settings import Settings, load_settings, unknown_variables
from rlm_dist.store import Store, connect


def doctor(
    call: Annotated[
        bool, typer.Option("--call", help="Make one real call of each model; it costs a few tokens.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check settings, Redis, workers, blob store, sandbox, model endpoint and versions."""
    settings = load_settings()
    probes = Probes(
        stores=lambda: _reach(settings),
        models=check_endpoint,
        sandbox=lambda: choose(settings.sandbox, settings.sandbox_min, settings.sandbox_packages),
        limits=lambda client: list(
            limit_lines(Store(client, retention_s=settings.retention_s).limits.scopes())
        ),
        call=try_call if call else None,
        missing_depths=lambda client: Store(client, retention_s=settings.retention_s).workers.missing_depths(
            settings.max_depth
        ),
        missing_workers=lambda client: missing_workers(Store(client, retention_s=settings.retention_s)),
    )
    checks = [check_variables(unknown_variables()), *examine(settings, probes)]
    document = {"ok": not any(check.status == "failed" for check in checks), "checks": checks}
    Output(as_json=as_json).result(document, lambda: check_lines(checks))
    raise typer.Exit(verdict(checks))


def verdict(checks: list[Check]) -> int:
    """The exit code: a service that cannot be reached takes precedence over other failures."""
    if any(check.unreachable for check in checks):
        return UNREACHABLE
    return FAILED if any(check.status == "failed" for check in checks) else DONE


@contextmanager
def _reach(settings: Settings) -> Iterator[OpenStores]:
    with with_redis(settings) as resolved:
        assert resolved.redis_url is not None
        client: redis.Redis = connect(resolved.redis_url, client_name="rlm-doctor")
        try:
            blobs = lambda: open_blobs(resolved.blob_url, home=resolved.home, client=client)  # noqa: E731
            yield OpenStores(client, blobs)
        finally:
            client.close()
