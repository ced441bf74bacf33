"""Threads by the C library's ``clone`` that share one small piece of memory: no limit on memory counts them.

A level may let them come into being, but must then end the process at once.
"""

PTHREAD = 0x3D0F00  # the flags that the C library itself uses
PIECE = 256
memory = ctypes.create_string_buffer(PIECE * 1100 + 8192)
first = ctypes.addressof(memory) + 8192
local = ctypes.c_void_p(ctypes.addressof(memory) + 4096)
ctypes.c_void_p.from_address(local.value + 16).value = local.value  # where x86_64 looks for the thread itself
word = ctypes.byref(ctypes.c_int())
wait = ctypes.cast(libc.pause, ctypes.c_void_p)
made = 0
for number in range(1, 1100):
    top = ctypes.c_void_p((first + number * PIECE) & ~15)
    made += libc.clone(wait, top, PTHREAD, None, word, local, word) > 0
if made > 600:
    time.sleep(0.7)
    hit(f"{made} threads")
