"""Signals to the worker, by every call that sends one."""

import signal

USR1 = int(signal.SIGUSR1)
for pid in (facts["pid"], os.getppid()):
    attempt(lambda: os.kill(pid, USR1))
    attempt(lambda: os.killpg(os.getpgid(pid), 0) or True, "killpg")
    attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), USR1))
    libc.syscall(234, pid, pid, USR1)  # tgkill
    libc.syscall(200, pid, USR1)  # tkill
    libc.syscall(129, pid, USR1, ctypes.create_string_buffer(b"\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff", 128))
    libc.syscall(297, pid, pid, USR1, ctypes.create_string_buffer(128))
