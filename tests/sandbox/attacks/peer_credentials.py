"""Who is at the other end of the REPL's socket: the worker's process id, user and groups, and a handle to it."""

SO_PEERCRED, SO_PEERSEC, SO_PEERGROUPS, SO_PEERPIDFD = 17, 31, 59, 77
size = ctypes.c_uint32(64)
buffer = ctypes.create_string_buffer(64)
for fd in range(3, 64):
    for option in (SO_PEERCRED, SO_PEERSEC, SO_PEERGROUPS, SO_PEERPIDFD):
        size.value = 64
        if libc.getsockopt(fd, socket.SOL_SOCKET, option, buffer, ctypes.byref(size)) == 0:
            hit(f"option {option}")
