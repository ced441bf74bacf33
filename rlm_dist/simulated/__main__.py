"""``python -m rlm_dist.simulated``: the simulated endpoint as a process.

Prints one line of JSON, ``{"url": ..., "pid": ...}``, when it serves; ends on SIGTERM, on SIGINT, or, with
``--exit-with-stdin``, when its standard input closes, which it does when the starter is gone.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence

from pydantic import TypeAdapter

from rlm_dist.simulated.faults import Fault
from rlm_dist.simulated.server import Latency, SimulatedEndpoint


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    given = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    latency = Latency(given.latency_s, given.sigma, given.seed) if given.latency_s else None
    faults = TypeAdapter(list[Fault]).validate_json(given.faults)
    with SimulatedEndpoint(faults=faults, latency=latency, port=given.port) as endpoint:
        sys.stdout.write(json.dumps({"url": endpoint.url, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        if given.exit_with_stdin:
            threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
        stop.wait()


def _watch_stdin(stop: threading.Event) -> None:
    # Not sys.stdin: its lock, held by a daemon thread, aborts the interpreter's exit.
    while os.read(0, 4096):
        pass
    stop.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rlm_dist.simulated", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency-s", type=float, default=0.0, help="median seconds of an answer")
    parser.add_argument("--sigma", type=float, default=0.0, help="spread of the lognormal around it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="[]", help="a JSON list of rules, see faults.py")
    parser.add_argument("--exit-with-stdin", action="store_true")
    return parser


if __name__ == "__main__":
    main()
