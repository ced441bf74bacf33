"""What this process was handed by accident: every descriptor is tried."""

for fd in range(3, 1024):
    attempt(lambda: print(os.pread(fd, 1000, 0)))
    attempt(lambda: print(os.listdir(fd)) or True, "a folder")
