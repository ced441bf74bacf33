"""Sockets with larger buffers, more options and their own programs: memory of the kernel, and code that runs in it."""

SO_ATTACH_FILTER, SO_BUSY_POLL, SO_TIMESTAMPING, SO_PEEK_OFF = 26, 46, 37, 42
program = ctypes.create_string_buffer(b"\x06\0\0\0\0\0\0\0")  # one instruction: return 0
filter_of_one = (ctypes.c_void_p * 2)(1, ctypes.addressof(program))
one, other = socket.socketpair()
for option in (
    socket.SO_SNDBUF,
    socket.SO_RCVBUF,
    SO_PEEK_OFF,
    SO_BUSY_POLL,
    SO_TIMESTAMPING,
    socket.SO_PASSCRED,
):
    attempt(lambda: one.setsockopt(socket.SOL_SOCKET, option, 1) or True, f"set option {option}")
attempt(
    lambda: one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(filter_of_one)) or True, "a program"
)
