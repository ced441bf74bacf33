"""Which level of isolation works here: found by attack, not by version.

A throw-away REPL is started at a level, exactly as a job's would be, and runs a short list of attacks against
things that were put there to be hit. What counts is what this side sees: a connection, a file, a secret in
what the REPL says.
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
_MENDS = {
    Level.NAMESPACES: "install bubblewrap (the system's package, or rlm-dist[bubblewrap]), and allow user "
    "namespaces (Docker: --security-opt seccomp=unconfined, on Ubuntu also --security-opt "
    "apparmor=unconfined; Kubernetes: not in a restricted pod)",
    Level.LANDLOCK: "a kernel of 5.13 or newer with landlock among its security modules, and a Docker or "
    "Kubernetes seccomp profile that lets the landlock calls through (RuntimeDefault of a current release)",
    Level.SECCOMP: "Linux on x86_64 or aarch64 with seccomp filters",
}


@functools.cache
def choose(setting: str, minimum: str, names: tuple[str, ...] = ()) -> Level:
    """The level for ``RLM_SANDBOX``; ``auto`` takes the strongest that works with these packages.

    Raises:
        SettingsError: the level does not work here, or none does that is as strong as ``minimum``; it says
            what failed and how to mend it. Or a package is not installed.
    """
    packages = find(names)
    least = Level(minimum)
    if setting == Level.OFF and Level.SECCOMP.is_at_least(
        least
    ):  # named, and no more is asked for than by default
        return Level.OFF
    if setting != "auto" and not Level(setting).is_at_least(least):
        raise SettingsError((f"RLM_SANDBOX: {setting} is weaker than RLM_SANDBOX_MIN ({minimum}) allows",))
    problems = []
    for level in [level for level in LOCKED if level.is_at_least(least) and setting in ("auto", level)]:
        failures = probe(level, packages)
        if not failures:
            return level
        problems.append(f"RLM_SANDBOX: {level} does not work here: {'; '.join(failures)}. {_mend(level)}")
    if setting == "auto":
        problems.append("RLM_SANDBOX=off runs model-written code unprotected: for trusted input only.")
    raise SettingsError(tuple(problems))


def probe(level: Level, packages: Packages = NO_PACKAGES) -> list[str]:
    """What went wrong at this level; nothing where it holds."""
    with tempfile.TemporaryDirectory(prefix="rlm-probe-") as folder:
        os.chmod(folder, 0o755)  # the attack is to be stopped by the level, not by its mode
        try:
            return _attacked(start_at(level, packages), Path(folder))
        except SandboxError as error:
            return [error.detail]


def _mend(level: Level) -> str:
    return f"It needs: {_MENDS[level]}."


def _attacked(start: ForkServerStart | PlainStart, folder: Path) -> list[str]:
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
        hits = [f"a {kind} socket was reached" for kind, it in listeners.items() if _reached(it)]
    if result.error is not None:
        return [f"the attacks ended with an error: {result.error[-200:]}"]
    if token in result.output.head:
        hits.append("a file of the host was read")
    if target.exists():
        hits.append("a file was written")
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
        for each in (tcp, unix):
            each.listen()
        for each in (tcp, udp, unix):
            each.setblocking(False)
        yield {"TCP": tcp, "UDP": udp, "UNIX": unix}


def _reached(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(1)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
