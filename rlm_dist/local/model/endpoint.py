"""A local model as an endpoint: its server process, from loading the weights to its exit.

Invariant: the server process ends with the context that started it, or with this process.
"""

import importlib.util
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rlm_dist.errors import InputError, Unreachable
from rlm_dist.local.child_python import import_variables, module_command
from rlm_dist.local.folders import own_file, own_folder
from rlm_dist.local.lifeline import Lifeline
from rlm_dist.local.model.catalogue import DEFAULT, MODELS
from rlm_dist.local.model.pull import weights

SLOTS = 2
SLOT_TOKENS = 8192
_STOP_S = 5
_ASK_S = 30
_MAX_LOG_BYTES = 1 << 20
# llama.cpp's threads wait for each other at each step; spinning threads starve if workers share the cores.
_WAITING = {"OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class LocalEndpoint:
    """A model that is served on this machine: the base URL for a client, and the model's name there."""

    url: str
    model: str
    pid: int


@contextmanager
def local_endpoint(home: Path, model: str = DEFAULT.name, *, port: int = 0) -> Iterator[LocalEndpoint]:
    """Serve a model that was pulled; ``model`` is a name, a file in ``<home>/models`` or a path.

    Raises:
        InputError: if the extra ``local`` or the weights are missing; it names the command that gets them.
        Unreachable: if the server does not come up.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise InputError(("the local model needs the extra: pip install 'rlm-dist[local]'",))
    path = weights(home, model)
    name = next((entry.name for entry in MODELS if entry.file == path.name), path.stem)
    with serve(path, name=name, log=home / "logs" / "model.log", port=port) as endpoint:
        yield endpoint


@contextmanager
def serve(
    path: Path,
    *,
    name: str,
    log: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    slots: int = SLOTS,
    slot_tokens: int = SLOT_TOKENS,
    threads: int | None = None,
) -> Iterator[LocalEndpoint]:
    """Serve the weights at ``path`` from a child process, which ends with this context.

    Up to ``slots`` requests run at once, each with up to ``slot_tokens`` of prompt and answer. Port 0 means a
    free port; ``threads=None`` means one thread for each core that we may use.

    Raises:
        Unreachable: if the server exits at its start, or does not answer.
    """
    options = {
        "--model": path,
        "--name": name,
        "--host": host,
        "--port": port,
        "--slots": slots,
        "--slot-tokens": slot_tokens,
        "--threads": threads or len(os.sched_getaffinity(0)),
    }
    arguments = [str(argument) for pair in options.items() for argument in pair]
    command = module_command("rlm_dist.local.model.process", *arguments)
    with Lifeline() as lifeline, _child(command, log, lifeline) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise _unreachable(path, log, "its server exited while it loaded the model")
        endpoint = LocalEndpoint(url=str(json.loads(line)["url"]), model=name, pid=process.pid)
        _check(endpoint, path, log)
        yield endpoint


@contextmanager
def _child(command: list[str], log: Path, lifeline: Lifeline) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in its own session (Ctrl-C is for us), and end it in any case."""
    own_folder(log.parent)
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with own_file(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            env=_WAITING | os.environ | import_variables() | lifeline.variables,
            pass_fds=(lifeline.descriptor,),
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):  # it may still be loading
                    process.wait(_STOP_S)
            finally:
                process.kill()


def _check(endpoint: LocalEndpoint, path: Path, log: Path) -> None:
    """Check that the server lists its model; proxies from the environment are not used for loopback."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{endpoint.url}/models", timeout=_ASK_S) as response:
            names = [model["id"] for model in json.load(response)["data"]]
    except (OSError, ValueError, KeyError) as error:
        raise _unreachable(path, log, f"its server does not list its models: {error}") from None
    if endpoint.model not in names:
        raise _unreachable(path, log, f"its server serves other models: {names}")


def _unreachable(path: Path, log: Path, detail: str) -> Unreachable:
    lines = log.read_text(errors="replace").strip().splitlines()[-3:]
    return Unreachable("the local model", str(path), detail, "\n".join([f"The end of {log}:", *lines]))
