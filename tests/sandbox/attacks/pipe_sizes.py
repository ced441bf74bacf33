"""Pipes made large: what is in them is memory of the kernel, which no limit of the process counts."""

import fcntl

held = []
while pair := attempt(os.pipe):
    held.append(pair)
    size = attempt(lambda: fcntl.fcntl(pair[1], fcntl.F_SETPIPE_SZ, 1 << 20))
    if (size or 0) > 1 << 16:
        hit("a pipe of 1 MiB")
        break
