"""``rlm-dist flower`` and ``rlm-dist up``: Flower alone, and a whole cluster on this machine."""

import socket
import threading
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Annotated

import typer

from rlm_dist.broker.app import make_app
from rlm_dist.cli import options
from rlm_dist.cli.output import Output, write_json
from rlm_dist.cli.session import ClusterRecord, announce, open_stores
from rlm_dist.cli.small_model import small_model
from rlm_dist.errors import InputError, RLMError
from rlm_dist.llm import check_endpoints
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.llm.failures import shown_url
from rlm_dist.local.child_python import module_command
from rlm_dist.local.cluster import workers
from rlm_dist.local.home import hold_up, with_redis
from rlm_dist.local.lifeline import watch_lifeline
from rlm_dist.operations.flower.access import PageAccess, Snapshots
from rlm_dist.operations.flower.serve import FlowerChoices, serve_flower
from rlm_dist.operations.metrics.cluster import read_numbers
from rlm_dist.schema import Role
from rlm_dist.settings import Settings, load_settings
from rlm_dist.store import connect, reaching

_DRAIN_S = 30.0


def flower(
    port: options.Port = None,
    address: Annotated[str | None, typer.Option(help="Address to bind. [default: 127.0.0.1]")] = None,
    read_write: Annotated[
        bool, typer.Option("--read-write", help="Allow to pause, cancel, retry and set ceilings.")
    ] = False,
    show_content: Annotated[
        bool, typer.Option("--show-content", help="Show queries, prompts, code, outputs and answers.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show batches, jobs, endpoints, workers and tasks in the browser.

    Set FLOWER_BASIC_AUTH=user:password to require a password.
    """

    def ready(url: str) -> None:
        if as_json:
            write_json({"url": url})
        else:
            typer.echo(f"Flower: {url}")

    watch_lifeline()  # if "up" has started this process
    with with_redis(load_settings()) as settings:
        assert settings.redis_url is not None
        with closing(connect(settings.redis_url, client_name="rlm-flower")) as client, reaching(client):
            client.ping()
        with open_stores(settings) as (store, payloads):
            serve_flower(
                make_app(settings),
                PageAccess(store, payloads, Snapshots(store), settings, show_content),
                choices=FlowerChoices(address, port, read_write),
                ready=ready,
                read_numbers=partial(read_numbers, store, settings.broker_prefix, settings.max_depth),
            )


def up(
    root: Annotated[int, typer.Option(min=0, help="Root worker processes.")] = 1,
    sub: Annotated[int, typer.Option(min=0, help="Sub worker processes.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Flower's port; 0 picks a free one.")] = 5555,
    local: options.Local = False,
    as_json: options.Json = False,
) -> None:
    """Run a whole cluster on this machine until Ctrl-C: Redis (if none is set), workers and Flower."""
    out = Output(as_json=as_json)
    configured = load_settings()
    flower_port = _free_port(port)
    monitor = module_command("rlm_dist", "flower", "--port", str(flower_port))
    with ExitStack() as resources:
        settings = resources.enter_context(with_redis(configured))
        resources.enter_context(hold_up(configured.home))
        if local:
            settings = resources.enter_context(small_model(settings, out))
        cluster = resources.enter_context(workers(settings, roots=root, subs=sub, others={"flower": monitor}))
        announce(
            configured.home,
            ClusterRecord(prompts=settings.prompt_family, sandboxed=settings.sandbox != "off"),
        )
        url = f"http://127.0.0.1:{flower_port}"
        document = {
            "home": str(configured.home),
            "flower": url,
            "processes": cluster.pids(),
            "redis": shown_url(str(settings.redis_url)),
            "logs": str(settings.home / "logs"),
            "endpoint": shown_url(settings.api_url),
            "models": {"root": settings.model, "sub": settings.sub_model},
        }
        depths = f" for each of {settings.max_depth} depths" if settings.max_depth > 1 else ""
        lines = [
            f"up: {root} root{depths} and {sub} sub workers; Flower: {url}",
            f"  Redis     {document['redis']}",
            f"  logs      {document['logs']}",
            f"  endpoint  {document['endpoint']}",
            f"  models    root {settings.model}, sub {settings.sub_model}",
            "Ctrl-C stops it.",
        ]
        out.result(document, lambda: lines)
        with suppress(KeyboardInterrupt):
            _warn_without_endpoint(settings, out)
            threading.Event().wait()
        out.note(f"stopping: work under way has {_DRAIN_S:g} s to end; press Ctrl-C again to stop at once")
        cluster.stop(grace_s=_DRAIN_S)


def _warn_without_endpoint(settings: Settings, out: Output) -> None:
    try:
        check_endpoints(endpoints_of(settings, Role.ROOT))
    except RLMError as error:
        out.note(f"warning: jobs cannot run yet: {error}")


def _free_port(port: int) -> int:
    """The port, or a free one if it is 0.

    Raises:
        InputError: if it is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError((f"--port {port}: {error.strerror}",)) from None
        free_port: int = probe.getsockname()[1]
        return free_port
