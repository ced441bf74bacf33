"""Another program in place of this one."""

script = f"echo > {facts['open_folder']}/attack-exec; sleep 1"
fd = attempt(lambda: os.open("/bin/sh", os.O_RDONLY))
if fd is not None:
    attempt(lambda: os.execve(fd, ["sh", "-c", script], {}))
for program in ("/bin/sh", "/usr/bin/dash"):
    attempt(lambda: os.execve(program, [program, "-c", script], {}))
    libc.execl(program.encode(), b"sh", b"-c", script.encode(), None)
libc.execvp(b"ld.so", None)
