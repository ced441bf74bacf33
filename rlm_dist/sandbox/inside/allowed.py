"""The system calls that the locked REPL may make: a call that is not named here fails with EPERM.

Left out on purpose: everything that creates a socket or a process, executes a program, reaches into another
process, tells of another process or of the machine (sysinfo; uname, which has the host's name), creates
memory which RLIMIT_AS does not count (memfd_create, System V shared memory) or changes a file, tells which
pages of a file are in memory (mincore, cachestat) or drops them (fadvise64), and the large kernel interfaces
(io_uring, userfaultfd, bpf, keyctl, perf_event_open).
"""

_PLAIN = """
read write readv writev pread64 pwrite64 preadv pwritev lseek close fstat fstatfs dup dup2 dup3 pipe pipe2
poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime
shutdown getsockname getpeername
mprotect munmap mremap brk
futex futex_waitv set_robust_list rseq set_tid_address
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack
restart_syscall pause alarm getitimer setitimer
nanosleep gettimeofday time times
getpid gettid getppid getpgrp getuid geteuid getgid getegid getresuid getresgid getgroups
getrlimit getrusage getcpu getrandom
sched_yield sched_get_priority_max sched_get_priority_min
exit exit_group
"""
PLAIN = _PLAIN.split()

# A template forks and locks REPLs, so that an allow-list would be long. User namespaces are for its REPLs.
_NOT_IN_A_TEMPLATE = """
socket connect bind execve execveat ptrace process_vm_readv process_vm_writev pidfd_getfd setns mount
io_uring_setup bpf userfaultfd perf_event_open keyctl memfd_create
"""
NOT_IN_A_TEMPLATE = _NOT_IN_A_TEMPLATE.split()

# For reading only: writing calls are left out, and Landlock limits the files. Not at the level ``seccomp``.
_PATHS = """
open openat stat lstat access faccessat faccessat2 readlink readlinkat getdents64 getcwd
"""
PATHS = _PATHS.split()

# Calls whose first argument is a process: only the caller's own id, or these numbers, which mean the same.
OWN_PROCESS: dict[str, tuple[int, ...]] = {"prlimit64": (0,), "sched_setaffinity": (0,), "tgkill": ()}

# The same; the number 0 alone, so that the rule is the same in every process.
_OWN_BY_ZERO = """
getpgid getsid sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval get_robust_list
"""
OWN_BY_ZERO = _OWN_BY_ZERO.split()

# The position of the flags; MSG_OOB may not be among them: a part of the kernel that has had holes.
MESSAGES = {"sendto": 3, "recvfrom": 3, "recvmsg": 2}
MSG_OOB = 1

# Advice that concerns this process alone: not to merge pages with those of others, nor to put them away.
MEMORY_ADVICE = {
    "MADV_NORMAL": 0,
    "MADV_RANDOM": 1,
    "MADV_SEQUENTIAL": 2,
    "MADV_WILLNEED": 3,
    "MADV_DONTNEED": 4,
    "MADV_FREE": 8,
    "MADV_HUGEPAGE": 14,
    "MADV_NOHUGEPAGE": 15,
    "MADV_DONTDUMP": 16,
    "MADV_DODUMP": 17,
    "MADV_GUARD_INSTALL": 102,
    "MADV_GUARD_REMOVE": 103,
}

# Clocks from this number on, and negative ones, are those of other processes and of devices.
CLOCKS = ("clock_gettime", "clock_getres", "clock_nanosleep")
FOREIGN_CLOCKS = 16

SOL_SOCKET = 1
SOCKET_OPTIONS = {
    "SO_TYPE": 3,
    "SO_ERROR": 4,
    "SO_SNDBUF": 7,
    "SO_RCVBUF": 8,
    "SO_PROTOCOL": 38,
    "SO_DOMAIN": 39,
}

FCNTL = {
    "F_DUPFD": 0,
    "F_GETFD": 1,
    "F_SETFD": 2,
    "F_GETFL": 3,
    "F_SETFL": 4,
    "F_DUPFD_CLOEXEC": 1030,
}  # not F_SETOWN and F_SETSIG, with which the kernel sends a signal to another process for the caller

IOCTL = {
    "TCGETS": 0x5401,
    "TIOCGWINSZ": 0x5413,
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
}

PRCTL = {"PR_SET_NAME": 15, "PR_GET_NAME": 16, "PR_SET_VMA": 0x53564D41}
CLOSE_RANGE_CLOEXEC = 4

# The position of an argument, and what it may be. A flag of preadv2 tells whether a page is in memory. One of
# close_range gives a thread its own table of open files, for which the limit on open files holds once more.
BY_VALUE: dict[str, tuple[int, tuple[int, ...]]] = {
    "fcntl": (1, tuple(FCNTL.values())),
    "ioctl": (1, tuple(IOCTL.values())),
    "prctl": (0, tuple(PRCTL.values())),
    "madvise": (2, tuple(MEMORY_ADVICE.values())),
    "preadv2": (5, (0,)),
    "pwritev2": (5, (0,)),
    "close_range": (2, (0, CLOSE_RANGE_CLOEXEC)),
}

AF_UNIX = 1
SOCK_STREAM = 1
SOCK_TYPE_MASK = 0xF

PTHREAD = 0x3D0F00  # what the C library's pthread_create asks of clone, and nothing else
CLONE_FLAGS = 0xFFFFFFFF & ~0x400000  # but CLONE_DETACHED, which the kernel ignores, and musl sets
MAP_STACK = 0x20000
MAP_HUGETLB = 0x40000  # of the few pages that the host set aside; madvise asks for others
MIN_STACK_BYTES = 1 << 20  # together with RLIMIT_AS, this bounds the number of threads
AT_EMPTY_PATH = 0x1000
