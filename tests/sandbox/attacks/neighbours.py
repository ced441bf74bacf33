"""The REPL of another job of the same worker: its memory, its files, its life and its limits."""

import resource
import signal

other = facts["neighbour"]
attempt(lambda: os.kill(other, 0) or True, "kill")
attempt(lambda: os.kill(-1, 0) or True, "kill all")
attempt(lambda: os.killpg(os.getpgid(other), 0) or True, "killpg")
attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(other), 0) or True, "pidfd")
for number, arguments in ((234, (other, other, 0)), (200, (other, 0))):  # tgkill, tkill
    if libc.syscall(number, *arguments) == 0:
        hit(f"system call {number}")
for name in ("environ", "cmdline", "maps", "stat", "fd", "cwd", "task"):
    path = f"/proc/{other}/{name}"
    attempt(lambda: (os.listdir(path) if name in ("fd", "task") else slurp(path)) or True, path)
for name in ("root", "exe"):
    attempt(lambda: os.readlink(f"/proc/{other}/{name}"), f"the link {name}")


def memory():
    with open(f"/proc/{other}/maps") as maps, open(f"/proc/{other}/mem", "rb") as mem:
        for line in maps:
            if "rw-p" in line and int(line.split()[4]) == 0:
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                mem.seek(start)
                print(mem.read(end - start))


attempt(memory)
for request in (0x4206, 16):  # SEIZE, ATTACH
    if works("ptrace", request, other, 0, 0) is not None:
        hit("ptrace")
        libc.ptrace(17, other, 0, 0)
attempt(lambda: resource.prlimit(other, resource.RLIMIT_NOFILE), "its limits")
attempt(lambda: os.sched_setaffinity(other, {0}) or True, "its processors")
attempt(lambda: os.setpriority(os.PRIO_PROCESS, other, 19) or True, "its priority")
