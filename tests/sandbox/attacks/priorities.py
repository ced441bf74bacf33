"""To run before all others, or to change how the processor and the disk are shared."""

IOPRIO_SET = {"x86_64": 251, "aarch64": 30}[os.uname().machine]
attempt(lambda: os.nice(1), "nice")
attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, 5) or True, "setpriority")
for policy, level in ((os.SCHED_FIFO, 1), (os.SCHED_RR, 1), (os.SCHED_BATCH, 0), (os.SCHED_IDLE, 0)):
    attempt(lambda: os.sched_setscheduler(0, policy, os.sched_param(level)) or True, "sched_setscheduler")
attempt(lambda: os.sched_setparam(0, os.sched_param(0)) or True, "sched_setparam")
attempt(lambda: works("syscall", IOPRIO_SET, 1, 0, 3 << 13), "ioprio_set")
