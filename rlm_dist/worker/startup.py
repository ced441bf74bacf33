"""What every worker does before it takes work: check that it can run, and watch for its parent's end."""

import os
import resource
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import NoReturn

import structlog
from celery.signals import celeryd_init

from rlm_dist.errors import RLMError, SettingsError
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.llm.prices import Prices
from rlm_dist.local.lifeline import watch_lifeline
from rlm_dist.otel.start import missing_extra
from rlm_dist.sandbox.probe import choose
from rlm_dist.schema import Role
from rlm_dist.settings import Settings, load_settings, unknown_variables
from rlm_dist.store import connect, reaching
from rlm_dist.worker.logging_setup import configure_logs

log = structlog.get_logger()

_NO_AUTOSCALE = (
    "--autoscale: a sub worker is one process, whose threads cost nothing while they wait. Set its size with "
    "RLM_SUB_CONCURRENCY or -c, and run more or fewer sub workers"
)
EXIT_BAD_SETTINGS = 2
EXIT_UNREACHABLE = 5


def worker_settings(role: Role) -> Settings:
    """The settings of a worker; if they are unusable, the process ends here with a clear message."""
    try:
        settings = load_settings()
        if settings.redis_url is None:
            raise SettingsError(("RLM_REDIS_URL: a worker needs the address of the Redis server",))
        Prices(settings.prices)
        for any_role in Role:
            endpoints_of(settings, any_role)
    except SettingsError as error:
        _exit(error, EXIT_BAD_SETTINGS)
    for variable in unknown_variables():
        _say(f"warning: {variable}")

    @celeryd_init.connect(weak=False)
    def start(options: Mapping[str, object], **_: object) -> None:
        if role is Role.SUB and options.get("autoscale"):
            _exit(SettingsError((_NO_AUTOSCALE,)), EXIT_BAD_SETTINGS)
        watch_lifeline()
        _keep_private()
        configure_logs(settings.log_level)
        _load_spans()
        try:
            if role is Role.ROOT:  # before the fork, so that the processes of the pool need not probe again
                choose(settings.sandbox, settings.sandbox_min, settings.sandbox_packages)
            _reach_redis(settings)
        except SettingsError as error:
            _exit(error, EXIT_BAD_SETTINGS)
        except RLMError as error:
            _exit(error, EXIT_UNREACHABLE)

    return settings


def _load_spans() -> None:
    """Load what sends spans, before the fork, so that the processes of a pool share it."""
    missing = missing_extra()
    if missing:
        log.warning("spans_not_sent", why=missing)


def _keep_private() -> None:
    """Let no other user read what this process and its children write; leave no memory on disk."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reach_redis(settings: Settings) -> None:
    assert settings.redis_url is not None
    with closing(connect(settings.redis_url, client_name="rlm-start")) as client, reaching(client):
        client.ping()


def _exit(error: RLMError, code: int) -> NoReturn:
    _say(str(error))
    raise SystemExit(code)


def _say(text: str) -> None:
    print(f"rlm-dist worker: {text}", file=sys.stderr)  # noqa: T201  # logging is not set up yet
