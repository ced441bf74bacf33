"""Another process by the system calls themselves, with and without a namespace."""

SIGCHLD, VM, VFORK, NEWUSER = 17, 0x100, 0x4000, 0x10000000
for number, arguments in (
    (57, ()),
    (56, (SIGCHLD, 0, 0, 0, 0)),
    (56, (SIGCHLD | NEWUSER, 0, 0, 0, 0)),
    (435, ((ctypes.c_uint64 * 11)(0, 0, 0, 0, SIGCHLD), 88)),
):
    pid = libc.syscall(number, *arguments)
    if pid == 0:
        os._exit(0)
    if pid > 0:
        hit(f"system call {number}")
