"""A pair of sockets needs no right; one of datagrams can be sent from to any address of its kind."""

for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
    pair = attempt(lambda: socket.socketpair(socket.AF_UNIX, kind))
    for _, path in facts["unix"]:
        address = path.replace("@", "\0") if path.startswith("@") else path
        for one in pair or ():
            attempt(lambda: one.sendto(b"x", address))
            attempt(lambda: one.sendmsg([b"x"], [], 0, address))
            attempt(lambda: one.connect(address))
