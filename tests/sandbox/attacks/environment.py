"""The variables of this process, and what C sees of them."""

print(dict(os.environ), os.environb)
address = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
for i in range(50):
    if not address[i]:
        break
    print(address[i])
