"""Advice on memory by which other processes can be timed or slowed down.

Pages that are merged with equal ones of other processes tell by the time of a write that there were some.
"""

ADVICE = {
    "merged with other processes' pages": 12,
    "cooled": 20,
    "paged out": 21,
    "made one huge page": 25,
}
libc.mmap.restype = ctypes.c_void_p
length = ctypes.c_size_t(4 << 20)
start = libc.mmap(None, length, 3, 0x22, -1, ctypes.c_long(0))  # readable, writable; private, anonymous
ctypes.memset(start, 1, 4 << 20)
for name, advice in ADVICE.items():
    attempt(lambda: works("madvise", ctypes.c_void_p(start), length, advice), name)
