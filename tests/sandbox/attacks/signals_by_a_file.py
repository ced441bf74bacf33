"""The owner of a file is sent a signal when it becomes readable: the kernel kills for us."""

import fcntl

F_SETOWN, F_SETSIG, F_SETOWN_EX, FIOASYNC, FIOSETOWN = 8, 10, 15, 0x5452, 0x8901
for pid in (facts["pid"], os.getppid()):
    ends = [attempt(os.pipe), attempt(lambda: [it.detach() for it in socket.socketpair()])]
    for pair in filter(None, ends):
        for end in pair:
            attempt(lambda: fcntl.fcntl(end, F_SETOWN, pid))
            attempt(lambda: fcntl.ioctl(end, FIOSETOWN, pid.to_bytes(4, "little")))
            attempt(lambda: fcntl.fcntl(end, F_SETSIG, 10))
            attempt(lambda: fcntl.fcntl(end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK))
        for end in reversed(pair):
            attempt(lambda: os.write(end, b"x"))
seen()
