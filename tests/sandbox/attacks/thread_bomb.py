"""As many threads as there can be, with the smallest stacks there can be."""

go_on = threading.Event()
for size in (32768, 65536, 1 << 20, 8 << 20):
    threading.stack_size(size)
    try:
        for _ in range(4000):
            threading.Thread(target=go_on.wait, daemon=True).start()
    except (RuntimeError, MemoryError):
        pass
seen()
print(threading.active_count())
go_on.set()
