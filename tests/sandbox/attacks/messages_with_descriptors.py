"""A descriptor sent to the host along with bytes, and one asked for."""

import array

for fd in range(3, 64):

    def send():
        with socket.socket(fileno=fd) as it:
            it.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
        return True

    attempt(send, "SCM_RIGHTS")
