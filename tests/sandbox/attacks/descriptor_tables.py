"""A table of open files for each thread: the limit on open files holds for each table, not for the process.

What waits in these pipes and sockets is memory of the kernel, which no limit of the process counts.
"""

CLOSE_RANGE_UNSHARE = 2
FIRST_UNUSED = 1000
TABLES, OPENED = 6, 100
opened = []
full = threading.Barrier(TABLES + 1)


def own_table():
    attempt(lambda: works("close_range", FIRST_UNUSED, FIRST_UNUSED, CLOSE_RANGE_UNSHARE))
    for _ in range(OPENED):
        if attempt(lambda: opened.append(os.dup(0)) or True) is None:
            break
    full.wait()


for _ in range(TABLES):
    threading.Thread(target=own_table, daemon=True).start()
full.wait()
if len(opened) > 128:
    hit(f"{len(opened)} open files")
