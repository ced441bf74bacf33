"""``rlm-dist simulate``: an endpoint with scripted models, to try everything without a model or a key."""

import os
import signal
import sys
import threading
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from rlm_dist.cli.output import write_json
from rlm_dist.errors import InputError
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.simulated.faults import Fault
from rlm_dist.simulated.server import Latency

_FAULTS = TypeAdapter(list[Fault])
_EXAMPLE = '[{"kind": "status", "status": 429, "probability": 0.1}]'


def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 0,
    latency_s: Annotated[float, typer.Option(min=0, help="Median time of an answer, in seconds.")] = 0.0,
    sigma: Annotated[float, typer.Option(min=0, help="Sigma of its lognormal spread.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the spread.")] = 0,
    faults: Annotated[str, typer.Option(metavar="JSON", help=f"What goes wrong, such as {_EXAMPLE}.")] = "[]",
    exit_with_stdin: Annotated[
        bool, typer.Option("--exit-with-stdin", help="End when standard input closes.")
    ] = False,
) -> None:
    """Serve scripted models under an address, which it prints as JSON, until Ctrl-C: for trying and tests."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        rules = _FAULTS.validate_json(faults)
    except ValidationError as error:
        raise InputError(
            tuple(f"--faults: {item['loc']}: {item['msg']}" for item in error.errors())
        ) from None
    latency = Latency(latency_s, sigma, seed) if latency_s else None
    with SimulatedEndpoint(faults=rules, latency=latency, port=port) as endpoint:
        write_json({"url": endpoint.url, "pid": os.getpid()})
        sys.stdout.flush()
        if exit_with_stdin:
            threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
        stop.wait()


def _watch_stdin(stop: threading.Event) -> None:
    # os.read and not sys.stdin, whose lock, held by a daemon thread, would abort the interpreter's exit.
    while os.read(0, 4096):
        pass
    stop.set()
