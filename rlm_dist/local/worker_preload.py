"""A process that loads what all workers need, becomes each of them by a fork, and ends; run as ``-m``.

Its arguments are the modules to load. Its stdin is a socket, on which it takes one order, a JSON object with
descriptors beside it, and answers with the process ids, as one line. It has no thread, no connection and no
secret when it forks; the order has the environment of each worker, and ``preload`` says what it is.
"""

import gc
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from rlm_dist.local import worker_command

_CHUNK = 1 << 16
_MOST_DESCRIPTORS = 253  # the kernel's limit for one message


def main() -> None:
    """Load, wait for the order, and fork; in a worker, return once that has become what it is to be."""
    gc.disable()
    for module in sys.argv[1:]:
        import_module(module)
    # Or the first collection of each worker would copy the pages that they share. Less than 1 MB is garbage.
    gc.freeze()
    gc.enable()
    with socket.socket(fileno=os.dup(0)) as channel:
        text, descriptors = _receive(channel)
        if not text:  # nobody needs workers, or nobody is there any more
            return
        order = json.loads(text)
        pipes, logs = descriptors[: len(order["pipes"])], descriptors[len(order["pipes"]) :]
        pids = []
        for worker, log in zip(order["workers"], logs, strict=True):
            pid = os.fork()
            if pid == 0:
                channel.close()
                _become(worker, order["folder"], dict(zip(order["pipes"], pipes, strict=True)), log, logs)
                break
            pids.append(pid)
        else:
            channel.sendall(json.dumps(pids).encode() + b"\n")
            return
    worker_command.main()


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The order and its descriptors; empty if the channel was closed without one."""
    text = b""
    descriptors: list[int] = []
    while True:
        chunk, received, _, _ = socket.recv_fds(channel, _CHUNK, _MOST_DESCRIPTORS)
        if not chunk:
            return text, descriptors
        text += chunk
        descriptors += received


def _become(
    worker: Mapping[str, Any], folder: str, pipes: Mapping[str, int], log: int, logs: Sequence[int]
) -> None:
    """Be as a process that was started with these arguments: session, environment, folder, streams."""
    os.setsid()
    os.environ.clear()
    os.environ.update({**worker["environment"], **{name: str(number) for name, number in pipes.items()}})
    os.chdir(folder)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, stream in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, stream)
    for descriptor in (null, *logs):
        os.close(descriptor)
    sys.argv[1:] = worker["arguments"]


if __name__ == "__main__":
    main()
