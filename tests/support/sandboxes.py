"""Shared by the sandbox tests: encoded contexts, scripted sub models, and a look at REPLs' processes."""

import atexit
import contextlib
import functools
import json
import os
import secrets
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.fork_server_start import ForkServerStart
from rlm_dist.sandbox.host import Query, Sandbox, SandboxLimits
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.probe import choose, probe
from rlm_dist.schema import Answer, CallFailure, Message

LIMITS = SandboxLimits(code_timeout_s=20)


@functools.cache
def best_level() -> Level:
    """The strongest level of this machine."""
    return choose("auto", "seccomp")


def require(level: Level) -> None:
    """Skip the test, loudly, if this machine does not have the level."""
    if problems := _problems(level):
        pytest.skip(f"LOUD: the level {level} does not work on this machine: {problems}")


@functools.cache
def _problems(level: Level) -> list[str]:
    return probe(level) if level is not Level.OFF else []


@functools.cache
def forks(level: Level | None = None) -> ForkServerStart:
    """This process's fork-server for a level; None means the strongest."""
    server = ForkServerStart(level or best_level())
    atexit.register(server.close)
    return server


def write_context(
    path: Path, kind: str, texts: Sequence[str], *, several: bool = False, named: bool = False
) -> Path:
    """Write ``texts`` as an encoded context; this second implementation pins the format."""
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    header = {"v": 1, "kind": kind, "n": len(data), "several": several, "named": named}
    lengths = b"".join(struct.pack("<Q", len(item)) for item in data)
    path.write_bytes(json.dumps(header).encode() + b"\n" + lengths + b"".join(data))
    return path


def echo(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
    """A sub model that answers ``<model>:<last prompt>``."""
    return [Answer(call_id="c", text=f"{model}:{prompt[-1].content}") for prompt in prompts]


def failing_on(word: str) -> Query:
    """A sub model that fails every prompt that contains ``word``."""

    def query(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        failure = CallFailure(kind="invalid", message="the endpoint refused it")
        return [
            Answer(call_id="c", failure=failure)
            if word in prompt[-1].content
            else Answer(call_id="c", text=prompt[-1].content.upper())
            for prompt in prompts
        ]

    return query


def shown(sandbox: Sandbox, code: str) -> str:
    """What a block prints, which must succeed."""
    result = sandbox.run(code)
    assert result.error is None, result.error
    assert result.output.omitted == 0
    return result.output.head


def library_paths() -> list[str]:
    """The import path of a Python that has only the standard library."""
    code = "import sys\nprint('\\n'.join(sys.path))"
    python = [os.path.realpath(sys.executable), "-P", "-s", "-S"]
    return subprocess.run([*python, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def state_of(pid: int) -> str | None:
    """The state of a process as ``/proc`` spells it, or None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def exists(pid: int) -> bool:
    """Whether a process of this id runs (a zombie does not)."""
    return state_of(pid) not in (None, "Z")


def host_pid(pid: int, below: int) -> int:
    """The id outside, below the process ``below``, of the process that has the id ``pid`` in its namespace.

    There may be only one such namespace.
    """
    for status in (_status(folder / "status") for folder in Path("/proc").glob("[0-9]*")):
        own = status.get("NSpid", "").split()[-1:]
        if own == [str(pid)] and descends(int(status["Pid"]), below):
            return int(status["Pid"])
    raise AssertionError(f"no such process has the id {pid}")


def process_of(repl: Sandbox) -> int:
    """The id of a REPL's process as seen from here, found by a name that the process gives itself."""
    name = secrets.token_hex(7)
    assert repl.run(f"__import__('ctypes').CDLL(None).prctl(15, {name.encode()!r})").error is None
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "comm").read_text() == f"{name}\n":
                return int(folder.name)
    raise AssertionError("the REPL's process is not there")


def parent_of(pid: int) -> int:
    """The id of a process's parent."""
    return int(_status(Path(f"/proc/{pid}/status"))["PPid"])


def peak_bytes(pid: int) -> int:
    """The peak memory of a process."""
    return int(_status(Path(f"/proc/{pid}/status"))["VmHWM"].split()[0]) * 1024


def _status(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descends(pid: int, ancestor: int) -> bool:
    """Whether a process is below another one."""
    while pid > 1:
        pid = int(_status(Path(f"/proc/{pid}/status")).get("PPid", "0"))
        if pid == ancestor:
            return True
    return False


def held_bytes(pid: int) -> int:
    """The memory of a process: its own plus its share of shared memory; 0 if the process is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))


def run_until_lost(sandbox: Sandbox) -> threading.Thread:
    """A thread that runs a block which its process does not survive."""

    def run_one() -> None:
        with pytest.raises(SandboxError):
            sandbox.run("1")

    run = threading.Thread(target=run_one)
    run.start()
    return run
