"""``rlm-dist flower`` and ``rlm-dist up``: Flower alone, and a whole cluster on this machine."""

import socket
import sys
import threading
from contextlib import ExitStack, closing, suppress
from typing import Annotated

import typer

from rlm_dist.broker.app import make_app
from rlm_dist.cli import options
from rlm_dist.cli.local import small_model
from rlm_dist.cli.output import Output, write_json
from rlm_dist.cli.session import ClusterRecord, tell
from rlm_dist.errors import InputError
from rlm_dist.local.cluster import hold_up, with_redis, workers
from rlm_dist.local.lifeline import watch_lifeline
from rlm_dist.operations.flower import serve_flower
from rlm_dist.settings import load_settings
from rlm_dist.store import connect, reaching

_DRAIN_S = 30.0


def flower(
    port: options.Port = None,
    address: Annotated[str | None, typer.Option(help="Address to bind. [default: 127.0.0.1]")] = None,
    as_json: options.Json = False,
) -> None:
    """Show workers and tasks in the browser. FLOWER_BASIC_AUTH=user:password asks for a password."""

    def ready(url: str) -> None:
        if as_json:
            write_json({"url": url})
        else:
            typer.echo(f"Flower: {url}")

    watch_lifeline()  # where "up" has started it
    with with_redis(load_settings()) as settings:
        assert settings.redis_url is not None
        with closing(connect(settings.redis_url, client_name="rlm-flower")) as client, reaching(client):
            client.ping()
        serve_flower(make_app(settings), address=address, port=port, ready=ready)


def up(
    root: Annotated[int, typer.Option(min=0, help="Root worker processes.")] = 1,
    sub: Annotated[int, typer.Option(min=0, help="Sub worker processes.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of Flower; 0 takes a free one.")] = 5555,
    local: options.Local = False,
    as_json: options.Json = False,
) -> None:
    """Run a whole cluster on this machine until Ctrl-C: Redis where none is set, workers, and Flower."""
    out = Output(as_json=as_json)
    given = load_settings()
    bound = _free(port)
    monitor = [sys.executable, "-m", "rlm_dist", "flower", "--port", str(bound)]
    with ExitStack() as held:
        settings = held.enter_context(with_redis(given))
        held.enter_context(hold_up(given.home))
        if local:
            settings = held.enter_context(small_model(settings, out))
        cluster = held.enter_context(workers(settings, roots=root, subs=sub, others={"flower": monitor}))
        tell(given.home, ClusterRecord(prompts=settings.prompts))
        url = f"http://127.0.0.1:{bound}"
        shown = {"home": str(given.home), "flower": url, "processes": cluster.pids()}
        out.result(
            shown, lambda: [f"up: {root} root and {sub} sub workers; Flower: {url}", "Ctrl-C stops it."]
        )
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        out.note(f"stopping: work under way gets {_DRAIN_S:g} s to end; Ctrl-C again stops at once")
        cluster.stop(grace_s=_DRAIN_S)


def _free(port: int) -> int:
    """The port, or (0) a free one.

    Raises:
        InputError: where it is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError((f"--port {port}: {error.strerror}",)) from None
        bound: int = probe.getsockname()[1]
        return bound
