"""To debug the worker or the fork-server."""

ATTACH, SEIZE, DETACH = 16, 0x4206, 17
for pid in (facts["pid"], os.getppid()):
    for request in (SEIZE, ATTACH):
        if works("ptrace", request, pid, 0, 0) is not None:
            hit("ptrace")
            libc.ptrace(DETACH, pid, 0, 0)
