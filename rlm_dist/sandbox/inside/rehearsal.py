"""A rehearsal: a fork-server runs, before it forks the first REPL, what each REPL runs first.

Whatever runs for the first time writes to memory: bytecode adapts, lookups are remembered, patterns are
compiled. In a fork each page that is written to becomes a page of its own. So it happens here, once for all.
"""

import contextlib
import linecache
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator

from .clock import installed
from .frames import pack, receive
from .loop import HostChannel, load_context, obey, runner

_START = {"op": "start", "max_output_chars": 1000, "max_context_bytes": None, "tools": []}
_CONTEXT = b'{"v": 1, "kind": "str", "n": 1, "several": false, "named": false}\n\5\0\0\0\0\0\0\0hello'
_CELLS = (
    "print(len(context))",
    "import re, json\nlines = context.split()\nfound = [m for m in re.findall('l+', context)]\nlines, found",
    "def double(x):\n    return f'{x}{x}'\nprint(double(context), sum(range(3)))\nprint(SHOW_VARS())",
    "raise ValueError(context)",
    "answer['content'] = 'x'\nFINAL('x')",
)


def rehearse() -> None:
    """Run cells in this process as a REPL does, and leave nothing behind."""
    with _undone():
        random.seed(0)
        host, peer = socket.socketpair()
        with host, peer:
            channel = HostChannel(peer.fileno())
            _order(host, _START)
            start = channel.read()
            read_end, write_end = os.pipe()
            os.write(write_end, _CONTEXT)
            os.close(write_end)
            repl, _, _ = runner(channel, start, load_context(channel, read_end))
            for number, code in enumerate(_CELLS, 1):
                _order(host, {"op": "run", "cell": number, "code": code, "began_ns": time.time_ns()})
                obey(channel.read(), channel, repl, installed())
                channel.write_next()
                receive(host.recv)


def _order(host: socket.socket, frame: dict[str, object]) -> None:
    host.sendall(pack(frame))


@contextlib.contextmanager
def _undone() -> Iterator[None]:
    """Put back what a REPL replaces in its process."""
    streams = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    main, handler = sys.modules["__main__"], signal.getsignal(signal.SIGINT)
    yield
    sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]
    sys.modules["__main__"] = main
    signal.signal(signal.SIGINT, handler)
    linecache.clearcache()
