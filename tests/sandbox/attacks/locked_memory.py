"""Memory that can never be moved out of the machine's memory."""

MAP_LOCKED, MCL_CURRENT, MLOCK_ONFAULT = 0x2000, 1, 1
page = ctypes.c_void_p((ctypes.addressof(ctypes.create_string_buffer(1 << 16)) + 4095) & ~4095)
attempt(lambda: works("mlock", page, ctypes.c_size_t(4096)), "mlock")
attempt(lambda: works("mlock2", page, ctypes.c_size_t(4096), MLOCK_ONFAULT), "mlock2")
attempt(lambda: works("mlockall", MCL_CURRENT), "mlockall")
libc.mmap.restype = ctypes.c_long
length = ctypes.c_size_t(2 << 20)
if libc.mmap(None, length, 3, 0x22 | MAP_LOCKED, -1, ctypes.c_long(0)) != -1:
    hit("MAP_LOCKED")
