"""Finds the level of isolation that works here, by attacking it rather than by its version.

It starts a throw-away REPL at a level, exactly like a job's, which runs a short list of attacks against
targets that were set up for it. What counts is what the host sees: a connection, a file, a secret in the
REPL's output.
"""

import functools
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rlm_dist.errors import SandboxError, SettingsError
from rlm_dist.sandbox.fork_server_start import ForkServerStart, start_at
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import LOCKED, Level
from rlm_dist.sandbox.packages import NO_PACKAGES, Packages, find
from rlm_dist.sandbox.process import PlainStart
from rlm_dist.schema import Answer, Message

_LIMITS = SandboxLimits(code_timeout_s=20, memory_bytes=1 << 30)
_CONTEXT = b'{"v":1,"kind":"str","n":1,"several":false,"named":false}\n' + bytes(8)
_ATTACKS = Path(__file__).with_name("probe_attacks.py")
_THREADS = Path(__file__).with_name("probe_threads.py")
_MOST_THREADS = 600  # more than a REPL may have, and fewer than the attack starts
_REQUIREMENTS = {
    Level.NAMESPACES: "bubblewrap (the system's package, or rlm-dist[bubblewrap]), and user namespaces "
    "(Docker: --security-opt seccomp=unconfined, on Ubuntu also --security-opt "
    "apparmor=unconfined; Kubernetes: not in a restricted pod)",
    Level.LANDLOCK: "a kernel 5.13 or newer with landlock among its security modules, and a Docker or "
    "Kubernetes seccomp profile that allows the landlock calls (RuntimeDefault of a current release)",
    Level.SECCOMP: "Linux on x86_64 or aarch64 with seccomp filters",
}


@functools.cache
def choose(setting: str, minimum: str, names: tuple[str, ...] = ()) -> Level:
    """The level for ``RLM_SANDBOX``; ``auto`` takes the strongest that works with these packages.

    Raises:
        SettingsError: the level does not work here, or no level as strong as ``minimum`` does; the error says
            what failed and how to fix it. Or a package is not installed.
    """
    packages = find(names)
    least = Level(minimum)
    # Named in the setting, and the minimum is no stronger than the default.
    if setting == Level.OFF and Level.SECCOMP.is_at_least(least):
        return Level.OFF
    if setting != "auto" and not Level(setting).is_at_least(least):
        raise SettingsError((f"RLM_SANDBOX: {setting} is weaker than RLM_SANDBOX_MIN ({minimum}) allows",))
    problems = []
    for level in [level for level in LOCKED if level.is_at_least(least) and setting in ("auto", level)]:
        failures = probe(level, packages)
        if not failures:
            return level
        problems.append(
            f"RLM_SANDBOX: {level} does not work here: {'; '.join(failures)}. {_requirement(level)}"
        )
    if setting == "auto":
        problems.append("RLM_SANDBOX=off runs model-written code unprotected: for trusted input only.")
    raise SettingsError(tuple(problems))


def probe(level: Level, packages: Packages = NO_PACKAGES) -> list[str]:
    """What went wrong at this level; empty if it works."""
    with tempfile.TemporaryDirectory(prefix="rlm-probe-") as folder:
        os.chmod(folder, 0o755)  # the level must stop the attack, not the folder's mode
        try:
            return _run_attacks(start_at(level, packages), Path(folder))
        except SandboxError as error:
            return [error.detail]


def _requirement(level: Level) -> str:
    return f"It needs: {_REQUIREMENTS[level]}."


def _run_attacks(start: ForkServerStart | PlainStart, folder: Path) -> list[str]:
    context, secret, target = folder / "context", folder / "secret", folder / "written"
    context.write_bytes(_CONTEXT)
    secret.write_text(token := secrets.token_hex(16))
    with closing(start), _listeners(folder) as listeners:
        facts = {
            "secret": str(secret),
            "target": str(target),
            "pid": os.getpid(),
            "tcp": listeners["TCP"].getsockname(),
            "udp": listeners["UDP"].getsockname(),
            "unix": listeners["UNIX"].getsockname(),
        }
        code = f"facts = {facts!r}\n{_ATTACKS.read_text()}"
        with Sandbox(context_path=context, query=_no_query, limits=_LIMITS, start=start) as sandbox:
            result = sandbox.run(code)
            threads = sandbox.run(_THREADS.read_text()).output.head
        hits = [
            f"a {kind} socket was reached" for kind, listener in listeners.items() if _was_reached(listener)
        ]
    if result.error is not None:
        return [f"the attacks ended with an error: {result.error[-200:]}"]
    if token in result.output.head:
        hits.append("a file of the host was read")
    if target.exists():
        hits.append("a file was written")
    if int(threads or 0) > _MOST_THREADS:
        hits.append(f"{threads.strip()} threads were possible")
    return hits + [f"{name} was possible" for name in json.loads(result.output.head.splitlines()[-1])]


def _no_query(prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
    return []


@contextmanager
def _listeners(folder: Path) -> Iterator[dict[str, socket.socket]]:
    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    unix = socket.socket(socket.AF_UNIX)
    with tcp, udp, unix:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "socket"))
        for listener in (tcp, unix):
            listener.listen()
        for listener in (tcp, udp, unix):
            listener.setblocking(False)
        yield {"TCP": tcp, "UDP": udp, "UNIX": unix}


def _was_reached(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(1)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
