"""Urgent data in a pair of UNIX sockets, a part of the kernel that has had holes."""

MSG_OOB = 1
one, other = socket.socketpair()
attempt(lambda: one.send(b"xy", MSG_OOB), "sent")
one.send(b"ordinary")
attempt(lambda: other.recv(1, MSG_OOB), "received")
attempt(lambda: other.recvmsg(1, 0, MSG_OOB), "received as a message")
for flags in (MSG_OOB, MSG_OOB | socket.MSG_DONTWAIT, MSG_OOB | socket.MSG_NOSIGNAL):
    attempt(lambda: one.send(b"x", flags), f"sent with {flags}")
