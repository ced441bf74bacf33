"""Huge pages: the host sets a few aside for its databases, and they are gone when others take them."""

import errno

MAP_HUGETLB = 0x40000
libc.mmap.restype = ctypes.c_long
for length in (2 << 20, 64 << 10):
    start = libc.mmap(None, ctypes.c_size_t(length), 3, 0x22 | MAP_HUGETLB, -1, ctypes.c_long(0))
    if start != -1 or ctypes.get_errno() == errno.ENOMEM:  # the kernel has looked for one
        hit(f"huge pages for {length} bytes")
