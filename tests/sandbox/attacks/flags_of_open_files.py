"""The first three descriptors: their flags would belong to the fork-server and to every REPL, if they were shared."""

import fcntl

for fd in range(3):
    for flags in (os.O_NONBLOCK, os.O_APPEND, os.O_NONBLOCK | os.O_APPEND):
        attempt(lambda: fcntl.fcntl(fd, fcntl.F_SETFL, flags))
