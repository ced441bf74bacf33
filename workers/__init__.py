"""The Celery applications of a checkout, not installed with the package.

``celery -A workers.root worker`` and ``celery -A workers.sub worker`` start workers. The application of
``celery -A workers inspect ping`` and of the other commands that only send is made when it is asked for,
since Celery imports this package before ``workers.root`` too.
"""

import sys

from celery import Celery
from celery.signals import celeryd_init

from rlm_dist.broker.app import make_app
from rlm_dist.errors import SettingsError
from rlm_dist.settings import load_settings


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = app = _sending_app()
    return app


def _sending_app() -> Celery:
    celeryd_init.connect(_refuse, weak=False)
    try:
        return make_app(load_settings())
    except SettingsError as error:
        print(f"celery -A workers: {error}", file=sys.stderr)  # noqa: T201  # Celery would print a usage text
        raise SystemExit(2) from None


def _refuse(**_: object) -> None:
    """A worker without our tasks would throw away the jobs that it takes."""
    hint = "it has no tasks; start a worker with -A workers.root or -A workers.sub"
    print(f"celery -A workers: {hint}", file=sys.stderr)  # noqa: T201  # logging is not set up yet
    raise SystemExit(2)
