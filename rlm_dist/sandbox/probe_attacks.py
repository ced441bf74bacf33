"""The attacks that a level of isolation must stop; ``probe`` runs this file in a REPL, it is never imported.

``facts`` says where the targets are. The last line printed is a JSON list of the attacks that were possible.
"""

# mypy: ignore-errors
# ruff: noqa: F821, B023, T201
import ctypes
import fcntl
import json
import os
import resource
import socket

F_SETOWN = 8
libc = ctypes.CDLL(None, use_errno=True)
possible = []


def attempt(name, action):
    try:
        outcome = action()
    except (OSError, MemoryError, ValueError):
        return
    if name and outcome is not None:
        possible.append(name)


def call(function, *arguments):
    """What a C function returns; None if it fails."""
    result = getattr(libc, function)(*arguments)
    return None if result < 0 else result


def fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    return os.waitpid(pid, 0)


def connect(family, kind, protocol, address):
    with socket.socket(family, kind, protocol) as client:
        client.settimeout(2)
        client.connect(address)
        client.send(b"x")
    return True


def read(path):
    with open(path) as file:
        print(file.read())


def write(path):
    with open(path, "w") as file:
        file.write("x")


attempt(None, lambda: read(facts["secret"]))
attempt(None, lambda: write(facts["target"]))
attempt("reading the worker's environment", lambda: open(f"/proc/{facts['pid']}/environ").close() or True)
for protocol in (0, 262):  # 262: MPTCP
    attempt("TCP", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, protocol, tuple(facts["tcp"])))
attempt("UDP", lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, 0, tuple(facts["udp"])))
attempt("UNIX", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, 0, facts["unix"]))
for family, kind, name in (
    (40, 1, "a vsock socket"),
    (16, 3, "a netlink socket"),
    (17, 3, "a packet socket"),
):
    attempt(name, lambda: socket.socket(family, kind).close() or True)
attempt("a fork", fork)
attempt("a signal to another process", lambda: os.kill(facts["pid"], 0) or True)
attempt("a signal to the parent", lambda: os.kill(os.getppid(), 0) or True)
attempt("prlimit of another process", lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE) and True)
attempt("memfd_create", lambda: os.close(os.memfd_create("x")) or True)
attempt("ptrace", lambda: call("ptrace", 0x4206, os.getppid(), 0, 0))
attempt("a user namespace", lambda: call("unshare", 0x10000000))
attempt("an allocation of 4 GB", lambda: len(bytearray(4 << 30)))
attempt(
    "a signal by way of a pipe's owner", lambda: fcntl.fcntl(os.pipe()[0], F_SETOWN, os.getppid()) or True
)
attempt("an exec", lambda: os.execv("/bin/true", ["true"]))
print()
print(json.dumps(sorted(set(possible))))
