"""A stand-in for a root worker, run as ``python -m tests.support.worker_pool LEVEL FD...``, and its client.

Its main process starts the fork-server. For each line of its input it forks a process that takes orders at
the next of the sockets: lines of JSON, ``["start", path]``, ``["run", code]`` or ``["close"]``.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.fork_server_process import ForkServerProcess
from rlm_dist.sandbox.fork_server_start import ForkServerStart
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.sandbox.level import Level
from tests.support.environment import PROJECT
from tests.support.sandboxes import LIMITS, echo, parent_of, process_of


class Started(NamedTuple):
    """The process of a REPL and its parent, or the reason why there is none."""

    pid: int
    parent: int
    problem: str | None


class Member:
    """One process of the pool, with one REPL."""

    def __init__(self, link: socket.socket) -> None:
        self._file = link.makefile("rw")
        self.pid = int(self._file.readline())

    def start(self, context: Path) -> Started:
        """Start its REPL over this context."""
        self.order("start", str(context))
        return self.started()

    def started(self) -> Started:
        """The result of a start that was ordered."""
        return Started(*self._heard())

    def run(self, code: str) -> tuple[str, str | None]:
        """What a block prints, and its error."""
        self.order("run", code)
        output, error = self._heard()
        return output, error

    def order(self, *order: str) -> None:
        """Send an order without waiting."""
        self._file.write(json.dumps(order) + "\n")
        self._file.flush()

    def _heard(self) -> Any:
        return json.loads(self._file.readline())


class Pool:
    """A running stand-in."""

    def __init__(self, main: "subprocess.Popen[bytes]", links: list[socket.socket]) -> None:
        self.main = main
        self._links = links

    def fork(self) -> Member:
        """Fork one more process."""
        assert self.main.stdin is not None
        self.main.stdin.write(b"\n")
        self.main.stdin.flush()
        return Member(self._links.pop(0))


@contextmanager
def pool(level: Level, size: int) -> Iterator[Pool]:
    """Run a stand-in that can fork ``size`` processes; all of it ends with the block."""
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(size)]
        for pair in pairs:
            for end in pair:
                stack.enter_context(end)
        numbers = [theirs.fileno() for _, theirs in pairs]
        main = subprocess.Popen(
            [sys.executable, "-m", __name__, level, *map(str, numbers)],
            stdin=subprocess.PIPE,
            pass_fds=numbers,
            cwd=PROJECT,
        )
        stack.enter_context(main)
        stack.callback(main.kill)
        for _, theirs in pairs:
            theirs.close()
        yield Pool(main, [ours for ours, _ in pairs])


def _serve(link: socket.socket, level: Level, fork_server: ForkServerProcess) -> None:
    file = link.makefile("rw")
    file.write(f"{os.getpid()}\n")
    file.flush()
    with ExitStack() as stack:
        server = stack.enter_context(closing(ForkServerStart(level, shared=fork_server)))
        repl: Sandbox | None = None
        for line in file:
            name, *arguments = json.loads(line)
            if name == "start":
                repl = Sandbox(context_path=Path(arguments[0]), query=echo, limits=LIMITS, start=server)
                stack.callback(repl.close)
                answer: object = _started(repl)
            elif name == "run":
                assert repl is not None
                result = repl.run(arguments[0])
                answer = result.output.head, result.error
            file.write(json.dumps(answer) + "\n")
            file.flush()


def _started(repl: Sandbox) -> Started:
    try:
        repl.start()
    except SandboxError as error:
        return Started(0, 0, error.detail)
    pid = process_of(repl)
    return Started(pid, parent_of(pid), None)


def main(level: str, *numbers: str) -> None:
    """Fork a process for each line of input, until the input ends."""
    links = [socket.socket(fileno=int(number)) for number in numbers]
    with closing(ForkServerProcess(Level(level))) as fork_server:
        for link in links:
            if not sys.stdin.readline():
                break
            if not os.fork():
                for other in links:
                    if other is not link:
                        other.close()
                _serve(link, Level(level), fork_server)
                os._exit(0)
            link.close()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
