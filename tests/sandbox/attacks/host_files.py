"""Files of the host, by their paths, in every way there is to open one."""

import io
import mmap

AT_FDCWD = -100


def by_c(path):
    fd = libc.open(path.encode(), os.O_RDONLY)
    if fd >= 0:
        print(os.read(fd, 1000))


def by_openat2(path):
    how = (ctypes.c_uint64 * 3)(0, 0, 0)
    fd = libc.syscall(437, AT_FDCWD, path.encode(), how, 24)
    if fd >= 0:
        print(os.read(fd, 1000))


def by_map(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as map:
        print(map[:])


for path in facts["secrets"]:
    for way in (slurp, by_c, by_openat2, by_map, lambda path: print(io.FileIO(path).read())):
        attempt(lambda: way(path))
for path in (
    "/etc/passwd",
    "/etc/shadow",
    "/etc/hostname",
    "/root/.bashrc",
    "/proc/1/environ",
    "/etc/machine-id",
):
    attempt(lambda: slurp(path) or True, f"read {path}")
