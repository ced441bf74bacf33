"""The system calls of 32-bit programs, which have other numbers, by machine code of our own."""

import mmap

code = bytes.fromhex("53 b8 14 00 00 00 cd 80 5b c3")  # push rbx; mov eax, getpid; int 0x80; pop rbx; ret
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
if run() > 0:
    hit("int 0x80")
