"""The name of the host, by every call and file that tells it."""

import platform

buffer = ctypes.create_string_buffer(1000)


def c_string(function, *arguments):
    if getattr(libc, function)(buffer, *arguments) < 0:
        raise OSError
    return buffer.raw.decode("latin-1")


def read(path):
    with open(path) as file:
        return file.read()


for ask in (
    lambda: os.uname().nodename,
    platform.node,
    socket.gethostname,
    lambda: c_string("uname"),
    lambda: c_string("gethostname", 1000),
    lambda: read("/proc/sys/kernel/hostname"),
    lambda: read("/etc/hostname"),
):
    if facts["host_name"] in (attempt(ask) or ""):
        hit("the name of the host")
