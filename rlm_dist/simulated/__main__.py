"""``python -m rlm_dist.simulated``: the simulated endpoint as a process.

Prints one line of JSON, ``{"url": ..., "pid": ...}``, once it serves. Ends on SIGTERM or SIGINT and, with
``--exit-with-stdin``, when its standard input closes, as it does when the process that started it has ended.
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
    """Serve until a signal, or the end of stdin, stops the process."""
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    latency = Latency(options.latency_s, options.sigma, options.seed) if options.latency_s else None
    faults = TypeAdapter(list[Fault]).validate_json(options.faults)
    with SimulatedEndpoint(faults=faults, latency=latency, port=options.port) as endpoint:
        sys.stdout.write(json.dumps({"url": endpoint.url, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        if options.exit_with_stdin:
            threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
        stop.wait()


def _watch_stdin(stop: threading.Event) -> None:
    # os.read and not sys.stdin, whose lock, held by a daemon thread, would abort the interpreter's exit.
    while os.read(0, 4096):
        pass
    stop.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rlm_dist.simulated", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 means a free port")
    parser.add_argument("--latency-s", type=float, default=0.0, help="median time of an answer in seconds")
    parser.add_argument("--sigma", type=float, default=0.0, help="sigma of its lognormal spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="[]", help="a JSON list of rules, see faults.py")
    parser.add_argument("--exit-with-stdin", action="store_true")
    return parser


if __name__ == "__main__":
    main()
