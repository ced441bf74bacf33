"""What every worker process does before it takes work: see that it can work at all, and who its parent is."""

import sys
from contextlib import closing

from celery.signals import celeryd_init

from rlm_dist.errors import RLMError, SettingsError, Unreachable
from rlm_dist.lifeline import watch_lifeline
from rlm_dist.prices import Prices
from rlm_dist.settings import Settings
from rlm_dist.store import connect

EXIT_BAD_SETTINGS = 2
EXIT_UNREACHABLE = 5


def check_at_start(settings: Settings) -> None:
    """Have the worker that starts next end at once, with a clear line, where its settings cannot work."""

    @celeryd_init.connect(weak=False)
    def check(**_: object) -> None:
        watch_lifeline()
        try:
            _check(settings)
        except RLMError as error:
            print(f"rlm-dist worker: {error}", file=sys.stderr)  # noqa: T201  # logging is not set up yet
            raise SystemExit(EXIT_BAD_SETTINGS if isinstance(error, SettingsError) else EXIT_UNREACHABLE) from None


def _check(settings: Settings) -> None:
    assert settings.redis_url is not None  # make_app has refused to go on without it
    Prices(settings.prices)
    if settings.sandbox not in ("auto", "off"):
        raise SettingsError((f"RLM_SANDBOX: the level {settings.sandbox!r} is not there yet; use auto or off",))
    with closing(connect(settings.redis_url, client_name="rlm-start")) as client:
        try:
            client.ping()
        except Unreachable:
            raise
