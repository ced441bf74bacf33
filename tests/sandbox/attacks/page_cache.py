"""Which pages are in memory, and what all processors do: calls by which other jobs can be timed."""

MEMBARRIER = {"x86_64": 324, "aarch64": 283}[os.uname().machine]
page = ctypes.c_void_p((ctypes.addressof(ctypes.create_string_buffer(1 << 16)) + 4095) & ~4095)
attempt(lambda: works("mincore", page, ctypes.c_size_t(4096), ctypes.create_string_buffer(16)), "mincore")
attempt(lambda: works("syscall", MEMBARRIER, 1, 0, 0), "membarrier")
attempt(lambda: works("syscall", 451, 0, 0, 0, 0), "cachestat")
