"""Threads with flags that the C library does not use: traced, without a stack, with a new namespace."""

PTHREAD, VM, SIGHAND, THREAD, FILES, FS = 0x3D0F00, 0x100, 0x800, 0x10000, 0x400, 0x200
PTRACE, PARENT, IO, PIDFD, NEWUTS, NEWTIME = 0x2000, 0x8000, 0x80000000, 0x1000, 0x04000000, 0x80
memory = ctypes.create_string_buffer(64 << 10)
local = ctypes.addressof(memory) + 4096
ctypes.c_void_p.from_address(local + 16).value = local
word = ctypes.byref(ctypes.c_int())
wait = ctypes.cast(libc.pause, ctypes.c_void_p)
plain = VM | SIGHAND | THREAD
odd = (
    plain,
    plain | FILES,
    plain | FS,
    PTHREAD | IO,
    PTHREAD & ~FILES,
    PTHREAD | NEWUTS,
    plain | PIDFD,
    PTHREAD | PTRACE,
)
for number, flags in enumerate(odd, 1):
    top = ctypes.c_void_p((local + 8192 + 4096 * number) & ~15)
    if libc.clone(wait, top, flags, None, word, ctypes.c_void_p(local), word) > 0:
        hit(f"clone with {flags:#x}")
