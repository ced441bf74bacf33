"""Flower over this project's broker, with our pages: read-only, on the loopback address, with bounded memory.

Flower's own ``FLOWER_*`` variables work (``FLOWER_BASIC_AUTH=user:password`` among them) and override the
defaults here; arguments of the caller override both. Flower's pages are open to everyone who can reach them,
so an address other than a loopback one is refused without basic auth. Tasks are shown by ids alone: their
senders put no prompt, context or key into arguments.
"""

import atexit
import ipaddress
import signal
from collections.abc import Callable
from importlib import resources
from types import FrameType
from typing import Any, NamedTuple

from celery import Celery
from flower.app import Flower  # type: ignore[import-untyped]  # Flower ships no types
from flower.command import (  # type: ignore[import-untyped]
    apply_env_options,
    extract_settings,
    setup_logging,
)
from flower.urls import settings as handler_settings  # type: ignore[import-untyped]
from tornado.options import options

from rlm_dist.errors import InputError
from rlm_dist.operations.flower.access import PageAccess, PageThreads
from rlm_dist.operations.flower.frame import UI_MODULES, FrameLoader
from rlm_dist.operations.flower.handlers import PageServices, routes
from rlm_dist.operations.flower.live import LiveHub
from rlm_dist.operations.metrics.cluster import ClusterNumbers
from rlm_dist.operations.metrics.scrape import add_metrics
from rlm_dist.operations.viewer.render import static

DEFAULTS: dict[str, Any] = {
    "address": "127.0.0.1",
    "port": 5555,
    "read_only": True,
    "max_tasks": 20_000,
    "purge_offline_workers": 300,
    "tasks_columns": "name,uuid,state,args,kwargs,received,runtime,worker",
}


class FlowerChoices(NamedTuple):
    """What the caller chose; None leaves it to Flower's variables and our defaults."""

    address: str | None = None
    port: int | None = None
    read_write: bool = False


def serve_flower(
    capp: Celery,
    access: PageAccess,
    *,
    choices: FlowerChoices,
    ready: Callable[[str], None],
    read_numbers: Callable[[], ClusterNumbers],
) -> None:
    """Serve Flower until SIGINT or SIGTERM; ``ready`` is called with its URL. Port 0 picks a free port.

    ``read_numbers`` reads what its ``/metrics`` shows besides Flower's own.

    Raises:
        InputError: if the address is not safe without basic auth, or the port is in use.
    """
    _configure(choices)
    loader = FrameLoader(handler_settings["template_path"])
    flower = Flower(
        capp=capp, options=options, **handler_settings, template_loader=loader, ui_modules=UI_MODULES
    )
    flower.add_handlers(r".*", _pages(access))
    add_metrics(flower, read_numbers)
    try:
        bound_port = flower.start_http_server()
    except OSError as error:
        raise InputError((f"--port {options.port} on {options.address}: {error.strerror}",)) from None
    atexit.register(flower.stop)
    signal.signal(signal.SIGTERM, _leave)
    ready(f"http://{options.address}:{bound_port}{options.url_prefix or ''}")
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        flower.stop()


def _pages(access: PageAccess) -> list[Any]:
    """The handlers of our pages."""
    own = resources.files("rlm_dist.operations.flower") / "static"
    files = {
        "viewer.css": ("text/css", static("viewer.css")),
        "viewer.js": ("text/javascript", static("viewer.js")),
        "pages.css": ("text/css", (own / "pages.css").read_text("utf-8")),
        "pages.js": ("text/javascript", (own / "pages.js").read_text("utf-8")),
    }
    return routes(PageServices(access, PageThreads(), LiveHub()), files, options.url_prefix)


def _configure(choices: FlowerChoices) -> None:
    """Set Flower's process-wide options: our defaults, then the environment's, then the caller's."""
    for name, value in DEFAULTS.items():
        setattr(options, name, value)
    apply_env_options()
    if choices.address is not None:
        options.address = choices.address
    if choices.port is not None:
        options.port = choices.port
    if choices.read_write:
        options.read_only = False
    if not options.basic_auth and not options.auth and not _is_loopback(options.address):
        hint = "set FLOWER_BASIC_AUTH=user:password to serve other hosts"
        raise InputError((f"--address {options.address}: {hint}",))
    extract_settings()
    setup_logging()


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _leave(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
