"""As many processes as there can be; they live until they were counted."""

counted, end = os.pipe()
for _ in range(100):
    if attempt(os.fork) == 0:
        os.close(end)
        os.read(counted, 1)
        os._exit(0)
seen()
