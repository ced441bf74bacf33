"""Which other processes there are, by the calls that tell something about a process."""

TELLING = {
    "getpgid": lambda pid: os.getpgid(pid),
    "getsid": lambda pid: os.getsid(pid),
    "getpriority": lambda pid: os.getpriority(os.PRIO_PROCESS, pid),
    "sched_getaffinity": lambda pid: os.sched_getaffinity(pid),
    "sched_getscheduler": lambda pid: os.sched_getscheduler(pid),
    "sched_getparam": lambda pid: os.sched_getparam(pid),
    "sched_rr_get_interval": lambda pid: os.sched_rr_get_interval(pid),
}
for pid in (facts["pid"], facts["neighbour"], os.getppid() or 1, 1):
    for name, ask in TELLING.items():
        attempt(lambda: ask(pid), f"{name} of another process")
for which, who in ((os.PRIO_PGRP, 0), (os.PRIO_USER, 0)):
    attempt(lambda: os.getpriority(which, who), "getpriority of many")
GET_ROBUST_LIST = {"x86_64": 274, "aarch64": 100}[os.uname().machine]
head, length = ctypes.c_void_p(), ctypes.c_size_t()
for pid in (facts["pid"], facts["neighbour"]):
    attempt(
        lambda: works("syscall", GET_ROBUST_LIST, pid, ctypes.byref(head), ctypes.byref(length)),
        "robust list",
    )
