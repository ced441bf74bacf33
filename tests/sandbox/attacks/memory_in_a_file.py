"""Memory that no limit of a process counts: anonymous files, shared memory, a memory file system."""

held = []


def fill(make):
    """Many files, each within the limit of a file's size; they have no name, and so end with us."""
    for _ in range(40):
        held.append(open(make(), "wb", 0))
        for _ in range(15):
            held[-1].write(bytes(1 << 20))
    seen()
    return True


flags = os.O_TMPFILE | os.O_RDWR
attempt(lambda: fill(lambda: os.memfd_create("attack")), "memfd")
held.clear()
attempt(lambda: fill(lambda: os.open("/dev/shm", flags, 0o600)), "/dev/shm")
held.clear()
attempt(lambda: fill(lambda: os.open("/tmp", flags, 0o600)), "/tmp")
held.clear()
segment = libc.shmget(0, 64 << 20, 0o1600)
if segment >= 0:
    hit("shmget")
    libc.shmctl(segment, 0, 0)
attempt(lambda: works("mq_open", b"/attack", os.O_CREAT | os.O_RDWR, 0o600, 0), "mq_open")
attempt(lambda: works("syscall", 447, 0), "memfd_secret")
