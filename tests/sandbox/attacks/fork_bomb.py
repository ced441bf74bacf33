"""As many processes as there can be; each sleeps, so that it can be counted."""

for _ in range(100):
    if attempt(os.fork) == 0:
        time.sleep(2)
        os._exit(0)
