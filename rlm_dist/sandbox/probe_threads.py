"""Starts more threads than a REPL may have; ``probe`` runs this file in a REPL, it is never imported.

They share one small piece of memory, so that the limit on memory does not count them. If a level stops them,
the kernel refuses most of them, or this process is killed before it has printed how many there are.
"""

# mypy: ignore-errors
# ruff: noqa: T201
import ctypes
import time

THREADS = 700
PTHREAD = 0x3D0F00  # the flags of pthread_create
PIECE = 256
libc = ctypes.CDLL(None)
memory = ctypes.create_string_buffer(8192 + PIECE * THREADS)
local = ctypes.addressof(memory) + 4096
ctypes.c_void_p.from_address(local + 16).value = local  # where x86_64 looks for the thread itself
word = ctypes.byref(ctypes.c_int())
wait = ctypes.cast(libc.pause, ctypes.c_void_p)
started = 0
for number in range(1, THREADS):
    top = ctypes.c_void_p((local + 4096 + PIECE * number) & ~15)
    started += libc.clone(wait, top, PTHREAD, None, word, ctypes.c_void_p(local), word) > 0
if started > 600:
    time.sleep(1)
print(started)
