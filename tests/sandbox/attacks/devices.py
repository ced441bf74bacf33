"""Devices: terminals that would type for their owner, virtual machines, the log, and others that have had holes."""

ALLOWED = ("/dev/null", "/dev/urandom")
names = {
    "ptmx",
    "pts/ptmx",
    "tty",
    "tty0",
    "console",
    "kmsg",
    "mem",
    "kvm",
    "fuse",
    "net/tun",
    "vsock",
    "vhost-net",
}
names |= {*(attempt(lambda: os.listdir("/dev")) or ())} | {
    "zero",
    "full",
    "random",
    "shm",
    "mqueue",
    "loop-control",
}
for path in sorted({f"/dev/{name}" for name in names} - {*ALLOWED}):
    if path.split("/")[2] in ("fd", "stdin", "stdout", "stderr"):
        continue  # links to what is open already
    for mode in (os.O_RDONLY, os.O_WRONLY):
        attempt(lambda: os.close(os.open(path, mode | os.O_NONBLOCK | os.O_NOCTTY)) or True, f"opened {path}")
for fd in range(64):
    attempt(lambda: works("ioctl", fd, 0x5412, b"x"), "typed into a terminal")
