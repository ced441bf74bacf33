"""Put before every attack. ``facts`` says where the things to be hit are.

What the worker cannot see for itself, an attack tells by ``hit``; to print a secret is a hit by itself.
"""

import ctypes
import os
import socket
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
STOPPED = (OSError, MemoryError, ValueError, ImportError, RuntimeError, EOFError)


def hit(what):
    print(facts["hit"], what)


def attempt(action, what=None):
    """Try one thing; ``what`` names it where that it works at all is a hit."""
    try:
        outcome = action()
    except STOPPED:
        return None
    if what is not None and outcome is not None:
        hit(what)
    return outcome


def seen():
    """Go on when the worker has looked at its processes and at the memory of the machine."""
    attempt(lambda: llm_query("look"))


def works(function, *arguments):
    """What a C function gives, None where it fails."""
    outcome = getattr(libc, function)(*arguments)
    return None if outcome < 0 else outcome


def slurp(path):
    with open(path, "rb") as file:
        print(file.read(100_000))
