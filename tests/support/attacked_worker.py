"""A stand-in worker that holds secrets and is attacked.

Run as ``python -m tests.support.attacked_worker LEVEL FOLDER LARGE PACKAGE...``. LARGE is 1 if REPLs share
the memory of a large context, else 0. The worker reads the name of one attack from each line of its input,
runs it in a new REPL, and prints what it saw as JSON: the hits, how the cell ended, and the seconds it took.
"""

import ast
import ctypes
import json
import os
import resource
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.sandbox.fork_server_start import ForkServerStart, start_at
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import find
from rlm_dist.sandbox.process import PlainStart
from rlm_dist.schema import Answer, CellResult, Message
from tests.support.environment import PROJECT
from tests.support.sandboxes import write_context

ATTACKS = PROJECT / "tests/sandbox/attacks"
PYTHON = os.path.realpath(sys.executable)  # the program that runs fork-servers
SECRET = "RLM_API_KEY"
PACKAGES = ("numpy", "pandas")
_LIMITS = SandboxLimits(code_timeout_s=1.0)
_NEIGHBOUR = """import fcntl, os, resource
{"flags": [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in range(3)],
 "pid": os.getpid(), "secret": secret, "files": resource.getrlimit(resource.RLIMIT_NOFILE),
 "processors": sorted(os.sched_getaffinity(0)), "priority": os.getpriority(os.PRIO_PROCESS, 0)}"""
_LARGE_BYTES = 10_000_000
_MOST_TASKS = 1200
_MOST_BYTES = 1_300_000_000
_MOST_SHARED_BYTES = 300_000_000
_MOST_OWN_BYTES = 300_000_000
_MOST_ERROR_CHARS = 10_000
_MOST_DRAFT_CHARS = 1 << 20
_PR_SET_CHILD_SUBREAPER = 36


class Secrets:
    """The worker's secrets: in its environment, in its memory, in files, and in an open file."""

    def __init__(self, folder: Path) -> None:
        self.tokens = {"environment": os.environ[SECRET], "neighbour": secrets.token_hex(16)}
        self.memory = ctypes.create_string_buffer(self._new("memory").encode())
        self.files = [folder / "readable", folder / "private"]
        for file, mode in zip(self.files, (0o644, 0o600), strict=True):
            file.write_text(self._new(file.name))
            file.chmod(mode)
        self.open_file = open(folder / "open", "w+")  # noqa: SIM115  # open as long as the worker lives
        self.open_file.write(self._new("open file"))
        self.open_file.flush()
        (folder / "secret_module.py").write_text(f"print({self._new('module')!r})")

    def _new(self, name: str) -> str:
        self.tokens[name] = secrets.token_hex(16)
        return self.tokens[name]


class Listeners:
    """The worker's sockets; ``reached`` says which of them someone connected or wrote to."""

    def __init__(self, folder: Path) -> None:
        self._open: dict[str, socket.socket] = {}
        self.tcp: list[tuple[int, Any]] = []
        self.unix: list[tuple[int, str]] = []
        self._listen("TCP", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.tcp.append((4, self._address("TCP")))
        with suppress(OSError):
            self._listen("TCP6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
            self.tcp.append((6, self._address("TCP6")))
        with suppress(OSError):
            self._listen("MPTCP", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), protocol=262)
            self.tcp.append((4, self._address("MPTCP")))
        self._listen("UDP", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self.udp = self._address("UDP")
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            for name in (str(folder / f"socket-{int(kind)}"), f"@rlm-{os.getpid()}-{int(kind)}"):
                self._listen(f"UNIX {name}", socket.AF_UNIX, kind, name.replace("@", "\0"))
                self.unix.append((int(kind), name))
                if not name.startswith("@"):
                    os.chmod(name, 0o777)  # the level has to prevent access, not the mode

    def _listen(
        self, name: str, family: int, kind: socket.SocketKind, address: Any, protocol: int = 0
    ) -> None:
        listener = self._open[name] = socket.socket(family, kind, protocol)
        listener.bind(address)
        if kind != socket.SOCK_DGRAM:
            listener.listen(100)
        listener.setblocking(False)

    def _address(self, name: str) -> Any:
        return self._open[name].getsockname()

    def reached(self) -> list[str]:
        """The names of the sockets that were connected or written to since the last call."""
        return [name for name, listener in self._open.items() if _reached(listener)]


def _reached(listener: socket.socket) -> bool:
    found = False
    with suppress(BlockingIOError):
        while True:
            if listener.type == socket.SOCK_DGRAM:
                listener.recv(1)
            else:
                listener.accept()[0].close()
            found = True
    return found


class Watch:
    """Watches the worker's descendants: how many there are, and how much memory they add."""

    def __init__(self) -> None:
        self.tasks = self.processes = self.bytes = self.shared = self.own = 0
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak of this process's memory
        self._own = _own_bytes()
        self._shared = _shared_bytes()
        self._held = _resident_bytes(descendants())
        self._over = threading.Event()
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join()
        self._look()

    def asked(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        """Look once, for an attack that calls the sub model at its peak; or fail if that is asked for."""
        if prompts[0][0].content == "fail":
            self._over.wait(0.05)
            raise CallError(FailureKind.INVALID, "as asked")
        self._look()
        return [Answer(call_id="c", text="") for _ in prompts]

    def _watch(self) -> None:
        while not self._over.wait(0.03):
            self._look()

    def _look(self) -> None:
        with self._looking:
            found = descendants()
            self.processes = max(self.processes, len(found))
            self.tasks = max(self.tasks, sum(_number(status, "Threads") for status in found))
            self.bytes = max(self.bytes, _resident_bytes(found) - self._held)
            self.shared = max(self.shared, _shared_bytes() - self._shared)
            self.own = max(self.own, _own_bytes() - self._own)


def descendants() -> list[dict[str, str]]:
    """The status of every process below this one; orphans are adopted by this process."""
    every = {}
    for folder in Path("/proc").glob("[0-9]*"):  # a pattern for the file would fail if a process ends now
        with suppress(OSError):
            lines = (folder / "status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines if ":" in line)
            every[int(status["Pid"])] = status
    below = {os.getpid()}
    found = []
    for _ in range(6):  # they are not nested deeper than that
        found = [status for status in every.values() if int(status["PPid"]) in below]
        below |= {int(status["Pid"]) for status in found}
    return [status for status in found if not status["State"].strip().startswith("Z")]


def _survivors(usual: int) -> int:
    """How many extra processes still run some time after the end of a job."""
    deadline = time.monotonic() + 3
    while (more := len(descendants()) - usual) > 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    return max(more, 0)


def is_fork_server(status: dict[str, str]) -> bool:
    """Whether this is a fork-server or was forked from one, and not the bubblewrap or shell around it."""
    with suppress(OSError):
        program, _, rest = Path(f"/proc/{status['Pid'].strip()}/cmdline").read_text().partition("\0")
        return program == PYTHON and "fork_server.py" in rest
    return False


def _resident_bytes(processes: list[dict[str, str]]) -> int:
    return sum(_number(status, "VmRSS") for status in processes) * 1024


def _number(status: dict[str, str], name: str) -> int:
    return int(status.get(name, "0").split()[0])


def _own_bytes() -> int:
    """The peak of this process's memory: while one call holds the interpreter's lock, nobody can look."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return _number(status, "VmHWM") * 1024


def _long_texts(result: CellResult) -> Iterator[str]:
    """What of a block's result would fill the store."""
    if len(result.error or "") > _MOST_ERROR_CHARS:
        yield f"an error of {len(result.error or ''):,} characters"
    if len(result.partial or "") > _MOST_DRAFT_CHARS:
        yield f"a draft of {len(result.partial or ''):,} characters"


def _shared_bytes() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["Shmem"].split()[0]) * 1024


class StandIn:
    """The worker that is attacked."""

    def __init__(self, folder: Path, *, large: bool) -> None:
        self._folder = folder
        self._large = large
        self._open_folder = folder / "open-folder"
        self._open_folder.mkdir()
        self._open_folder.chmod(0o777)
        self._secrets = Secrets(folder)
        self._listeners = Listeners(folder)
        self._signals: list[int] = []
        for number in (signal.SIGUSR1, signal.SIGIO, signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, lambda received, _: self._signals.append(received))
        self._victim = folder / "victim"
        self._context = write_context(folder / "context", "str", ["x" * _LARGE_BYTES if large else ""])

    def attacked(self, name: str, start: ForkServerStart | PlainStart) -> dict[str, Any]:
        """Run one attack while another job's REPL is running; returns what came of it."""
        with Sandbox(
            context_path=self._context, query=_no_query, limits=SandboxLimits(), start=start
        ) as neighbour:
            neighbour.run(f"secret = {self._secrets.tokens['neighbour']!r}")
            before = neighbour.run(_NEIGHBOUR).output.head
            found = self._run(name, start, ast.literal_eval(before)["pid"])
            after = neighbour.run(_NEIGHBOUR).output.head
            if after != before:
                found["hits"].append(f"the neighbour: {before} became {after}")
            return found

    def _run(self, name: str, start: ForkServerStart | PlainStart, neighbour: int) -> dict[str, Any]:
        facts = {
            "hit": (word := secrets.token_hex(16)),
            "pid": os.getpid(),
            "host_name": socket.gethostname(),
            "neighbour": neighbour,
            "address": ctypes.addressof(self._secrets.memory),
            "length": len(self._secrets.memory),
            "fd": self._secrets.open_file.fileno(),
            "folder": str(self._folder),
            "open_folder": str(self._open_folder),
            "secrets": [str(file) for file in self._secrets.files],
            "victims": [str(self._victim)],
            "project": [str(PROJECT), str(self._folder)],
            "library": str(next(Path(json.__file__).parents[2].rglob("*.so*"), "")),
            "tcp": self._listeners.tcp,
            "udp": self._listeners.udp,
            "unix": self._listeners.unix,
        }
        prelude, attack = ((ATTACKS / f"{part}.py").read_text() for part in ("_prelude", name))
        before = self._state()
        self._settle(start)
        usual = len(descendants())
        watch = Watch()
        began = time.monotonic()
        with Sandbox(context_path=self._context, query=watch.asked, limits=_LIMITS, start=start) as sandbox:
            result = sandbox.run(f"facts = {facts!r}\n{prelude}\n{attack}")
        seconds = time.monotonic() - began
        watch.close()
        survivors = _survivors(usual)
        text = f"{result.output.head}{result.output.tail}{result.error}"
        return {
            "hits": [
                *(line.removeprefix(word).strip() for line in text.splitlines() if line.startswith(word)),
                *(f"secret: {name}" for name, token in self._secrets.tokens.items() if token in text),
                *(f"reached: {name}" for name in self._listeners.reached()),
                *_changes(before, self._state()),
                *self._excesses(watch, usual),
                *_long_texts(result),
                *([f"{survivors} processes live on"] if survivors else []),
            ],
            "error": result.error,
            "output": result.output.head[:2000],
            "state_lost": result.state_lost,
            "seconds": seconds,
        }

    def _settle(self, start: ForkServerStart | PlainStart) -> None:
        """Wait until all usual processes run: fork-servers, a spare REPL of each, and a neighbour."""
        if isinstance(start, ForkServerStart):
            while sum(map(is_fork_server, descendants())) < (5 if self._large else 3):
                time.sleep(0.01)

    def _excesses(self, watch: Watch, usual: int) -> Iterator[str]:
        if watch.processes > usual + 1:
            yield f"{watch.processes} processes"
        if watch.tasks > _MOST_TASKS:
            yield f"{watch.tasks} threads"
        if watch.bytes > _MOST_BYTES:
            yield f"{watch.bytes >> 20} MB of memory"
        if watch.own > _MOST_OWN_BYTES:
            yield f"{watch.own >> 20} MB of the worker's memory"
        if watch.shared > _MOST_SHARED_BYTES:
            yield f"{watch.shared >> 20} MB of shared memory"

    def _state(self) -> dict[str, Any]:
        """The state that no attack may change; reading it also restores what can be restored."""
        signals, self._signals = self._signals, []
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        return {
            "signals": signals,
            "files": self._files(),
            "processors": sorted(os.sched_getaffinity(0)),
            "priority": os.getpriority(os.PRIO_PROCESS, 0),
        }

    def _files(self) -> list[str]:
        places = (self._folder, self._open_folder, Path("/tmp"), Path("/dev/shm"))
        found = [path for place in places for path in place.glob("*") if "attack-" in path.name]
        for path in found:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        victim = self._victim
        state = f"{victim.stat().st_mode:o} {victim.read_text()}" if victim.exists() else "gone"
        victim.write_text("victim")
        victim.chmod(0o666)
        return [*(f"{path.name} made" for path in found), f"victim: {state}"]


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name, value in after.items():
        if name == "signals" and value:
            yield f"signals {value}"
        elif name == "files" and value != ["victim: 100666 victim"]:
            yield f"files: {value}"
        elif name not in ("signals", "files") and value != before[name]:
            yield f"{name}: {before[name]} became {value}"


def _no_query(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
    return [Answer(call_id="c", text="") for _ in prompts]


@contextmanager
def _kin() -> Iterator[None]:
    """Let this process, not the machine's first one, adopt the orphans below it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for status in descendants():
            with suppress(ProcessLookupError):
                os.kill(int(status["Pid"]), signal.SIGKILL)


def main(level: str, folder: str, large: str, *packages: str) -> None:
    """Run the attacks named in the input, line by line."""
    worker = StandIn(Path(folder), large=large == "1")
    with closing(start_at(Level(level), find(packages))) as start, _kin():
        for line in sys.stdin:
            print(json.dumps(worker.attacked(line.strip(), start)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
