"""Locks on files that other jobs have, too: a channel between jobs, and a way to stop them."""

import fcntl

for path in (os.__file__, "/dev/null", facts["secrets"][0]):
    for way in (
        lambda fd: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
        lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
        lambda fd: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        lambda fd: fcntl.fcntl(fd, fcntl.F_NOTIFY, fcntl.DN_ACCESS),
    ):
        attempt(lambda: way(os.open(path, os.O_RDONLY)) or True, f"a lock on {path}")
