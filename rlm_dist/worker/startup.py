"""What every worker does before it takes work: check that it can run, and watch for its parent's end."""

import os
import resource
import sys
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import NoReturn, Protocol

import structlog
from celery.signals import celeryd_init, setup_logging, worker_ready

from rlm_dist.errors import RLMError, SettingsError
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.llm.prices import Prices
from rlm_dist.local.lifeline import watch_lifeline
from rlm_dist.local.open_files import allow_open_files, raise_open_files
from rlm_dist.local.readiness import say_ready, take_ready_descriptor
from rlm_dist.otel.start import missing_extra
from rlm_dist.sandbox.probe import choose
from rlm_dist.schema import Role
from rlm_dist.settings import Settings, load_settings, unknown_variables
from rlm_dist.store import connect, reaching
from rlm_dist.worker.logging_setup import configure_logs
from rlm_dist.worker.mcp_config import read_servers
from rlm_dist.worker.prompt_file import read_prompts
from rlm_dist.worker.tool_functions import load_functions

log = structlog.get_logger()

_NO_AUTOSCALE = (
    "--autoscale: a {role} worker is one process, whose threads cost nothing while they wait. Set its size "
    "with RLM_{variable}_CONCURRENCY or -c, and run more or fewer {role} workers"
)
_FILES = 512
_FILES_A_JOB = 16  # a live job has four or five; one with samples has more
EXIT_BAD_SETTINGS = 2
EXIT_UNREACHABLE = 5


def worker_settings(role: Role) -> Settings:
    """The settings of a worker; if they are unusable, the process ends here with a clear message."""
    try:
        settings = load_settings()
        if settings.redis_url is None:
            raise SettingsError(("RLM_REDIS_URL: a worker needs the address of the Redis server",))
        Prices(settings.prices)
        if role is Role.ROOT:
            read_prompts(settings.prompts)
        for any_role in Role:
            endpoints_of(settings, any_role)
    except SettingsError as error:
        _exit(error, EXIT_BAD_SETTINGS)

    @celeryd_init.connect(weak=False)
    def start(instance: _CeleryWorker, options: Mapping[str, object], **_: object) -> None:
        _set_up_logs(settings, role, instance)
        if options.get("autoscale"):
            why = _NO_AUTOSCALE.format(role=role.value, variable=role.name)
            _exit(SettingsError((why,)), EXIT_BAD_SETTINGS, settings)
        watch_lifeline()
        _say_when_ready()
        keep_private()
        _load_spans()
        try:
            if role is Role.ROOT:
                choose(settings.sandbox, settings.sandbox_min, settings.sandbox_packages)
                load_functions(settings.tools)
                read_servers(settings.mcp_servers)
                raise_open_files(_FILES + _FILES_A_JOB * _slots(options, settings.root_concurrency))
            else:
                _allow_open_files(_slots(options, settings.sub_concurrency))
            _reach_redis(settings)
        except SettingsError as error:
            _exit(error, EXIT_BAD_SETTINGS, settings)
        except RLMError as error:
            _exit(error, EXIT_UNREACHABLE, settings)

    return settings


def _say_when_ready() -> None:
    """Tell the process that started us when this worker takes work."""
    descriptor = take_ready_descriptor()
    if descriptor is not None:
        worker_ready.connect(lambda **_: say_ready(descriptor), weak=False)


def _load_spans() -> None:
    """Load what sends spans, or say why none are sent."""
    missing = missing_extra()
    if missing:
        log.warning("spans_not_sent", why=missing)


class _CeleryWorker(Protocol):
    quiet: bool


def _set_up_logs(settings: Settings, role: Role, instance: _CeleryWorker) -> None:
    """Give Celery's lines the form of ours, and leave out its banner, which has none."""
    instance.quiet = True
    configure = partial(configure_logs, settings.log_level, settings.log_format, role=role.value)
    configure()

    @setup_logging.connect(weak=False)
    def keep(loglevel: int, logfile: str | None, **_: object) -> None:
        configure(others=loglevel, logfile=logfile)

    for variable in unknown_variables():
        log.warning("unknown_setting", name=variable.name, nearest=variable.nearest)


def keep_private() -> None:
    """Let no other user read what this process and its children write; leave no memory on disk."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _slots(options: Mapping[str, object], default: int) -> int:
    """How many jobs or calls this worker takes at once."""
    slots = options.get("concurrency") or default
    assert isinstance(slots, int)
    return slots


def _allow_open_files(slots: int) -> None:
    """Raise the limit of open files if the slots need it; SettingsError if the system does not allow that."""
    raised = allow_open_files(slots)
    if raised is not None:
        log.info("open_files_raised", slots=slots, allowed=raised.soft)


def _reach_redis(settings: Settings) -> None:
    assert settings.redis_url is not None
    with closing(connect(settings.redis_url, client_name="rlm-start")) as client, reaching(client):
        client.ping()


def _exit(error: RLMError, code: int, settings: Settings | None = None) -> NoReturn:
    if settings is not None and settings.log_format == "json":
        log.error("worker_not_started", why=str(error), code=code)
    else:
        print(f"rlm-dist worker: {error}", file=sys.stderr)  # noqa: T201  # several lines for a person
    raise SystemExit(code)
