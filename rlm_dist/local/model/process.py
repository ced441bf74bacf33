"""The process of a local model: llama.cpp's OpenAI-compatible server on a loopback port, run as ``-m``.

It prints ``{"url": …}`` as one line on stdout when the model is loaded; all other output goes to stderr. It
ends on SIGTERM or SIGINT, or when its parent dies.
"""

import argparse
import importlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from rlm_dist.local.lifeline import watch_lifeline

_LLAMA: Any = importlib.import_module("xllamacpp")  # of the extra `local`; it has no types
_PROMPT_CACHE_MIB = 512


def main() -> None:
    """Load the model and serve it until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--slot-tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    watch_lifeline(grace_s=1)
    server = _LLAMA.Server(_parameters(arguments))
    print(json.dumps({"url": f"{server.listening_address}/v1"}), flush=True)  # noqa: T201  # for our parent
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    os._exit(0)  # the server's threads may be in the middle of an answer that nobody waits for


def _parameters(arguments: argparse.Namespace) -> Any:
    parameters = _LLAMA.CommonParams()
    parameters.model.path = str(arguments.model)
    parameters.model_alias = {arguments.name}
    parameters.hostnames = [arguments.host]
    parameters.port = arguments.port
    parameters.n_parallel = arguments.slots
    parameters.n_ctx = arguments.slots * arguments.slot_tokens  # llama.cpp divides it among the slots
    parameters.cpuparams.n_threads = arguments.threads
    parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.cache_ram_mib = _PROMPT_CACHE_MIB
    parameters.sampling.temp = 0.0  # small models do best, and are repeatable, without randomness
    parameters.ui = False
    parameters.endpoint_slots = False  # that route would show prompts
    return parameters


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # before any thread starts
    main()
