"""The processor time of other processes, by the clock that each process has."""

PROCESS, THREAD = 2, 6
for pid in (facts["pid"], facts["neighbour"], os.getppid() or 1):
    for kind in (PROCESS, THREAD):
        clock = (~pid << 3) | kind
        attempt(lambda: time.clock_gettime(clock), f"the time that process {pid} has used")
        attempt(lambda: time.clock_getres(clock), f"the clock of process {pid}")
