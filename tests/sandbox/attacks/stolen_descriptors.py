"""To take an open file out of the worker."""

PIDFD_OPEN, PIDFD_GETFD = 434, 438
for pid in (facts["pid"], os.getppid()):
    handle = libc.syscall(PIDFD_OPEN, pid, 0)
    for number in (facts["fd"], *range(3, 40)):
        fd = libc.syscall(PIDFD_GETFD, handle, number, 0)
        if fd >= 0:
            hit("pidfd_getfd")
            attempt(lambda: print(os.pread(fd, 1000, 0)))
