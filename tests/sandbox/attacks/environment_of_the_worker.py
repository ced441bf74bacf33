"""The variables and command lines of every process, by way of /proc."""

for pid in (facts["pid"], os.getppid(), 1, "self", "thread-self"):
    for name in ("environ", "cmdline", "maps", "root", "cwd"):
        attempt(lambda: slurp(f"/proc/{pid}/{name}"))
for pid in attempt(lambda: os.listdir("/proc")) or range(facts["pid"] - 50, facts["pid"] + 50):
    attempt(lambda: slurp(f"/proc/{pid}/environ"))
