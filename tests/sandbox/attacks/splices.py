"""Bytes moved between files by the kernel itself."""

one, other = os.pipe(), os.pipe()
os.write(one[1], b"x" * 100)
attempt(lambda: os.splice(one[0], other[1], 10), "splice")
attempt(lambda: works("tee", one[0], other[1], ctypes.c_size_t(10), 0), "tee")
piece = (ctypes.c_void_p * 2)(ctypes.addressof(ctypes.create_string_buffer(10)), 10)
attempt(lambda: works("vmsplice", other[1], piece, ctypes.c_size_t(1), 0), "vmsplice")
library = attempt(lambda: os.open(os.__file__, os.O_RDONLY))
if library is not None:
    attempt(lambda: os.sendfile(other[1], library, 0, 10), "sendfile")
    attempt(lambda: works("readahead", library, ctypes.c_long(0), ctypes.c_size_t(4096)), "readahead")
