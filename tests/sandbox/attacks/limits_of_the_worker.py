"""Resource limits, processors and priority of the worker."""

import resource

for pid in (facts["pid"], os.getppid()):
    attempt(lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (77, 4096)), "prlimit")
    attempt(lambda: os.sched_setaffinity(pid, {0}) or True, "sched_setaffinity")
    attempt(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19) or True, "setpriority")
attempt(
    lambda: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2) or True, "RLIMIT_AS raised"
)
attempt(lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19) or True, "the user's priority")
