"""To read and write the worker's memory by a system call."""


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


buffer = ctypes.create_string_buffer(facts["length"])
here = Piece(ctypes.addressof(buffer), facts["length"])
there = Piece(facts["address"], facts["length"])
for pid in (facts["pid"], os.getppid()):
    libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    print(buffer.raw)
    buffer.value = b""
    if works("process_vm_writev", pid, ctypes.byref(here), 0, ctypes.byref(there), 0, 0) is not None:
        hit("process_vm_writev")
