"""Another process, by every call that makes one."""

import multiprocessing
import subprocess


def forked():
    pid = os.fork()
    if not pid:
        os._exit(0)
    return os.waitpid(pid, 0)


attempt(forked, "fork")
attempt(lambda: subprocess.run(["/bin/true"]), "subprocess")
attempt(lambda: os.posix_spawn("/bin/true", ["true"], {}), "posix_spawn")
attempt(lambda: os.system("true") == 0 or None, "system")
attempt(lambda: multiprocessing.get_context("fork").Process(target=int).start() or True, "multiprocessing")
attempt(lambda: libc.popen(b"true", b"r") or None, "popen")
