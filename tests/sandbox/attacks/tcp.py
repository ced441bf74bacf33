"""TCP to the worker's listeners, Redis among them."""

for family, address in facts["tcp"]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_STREAM | socket.SOCK_NONBLOCK):

        def connect():
            with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, kind) as it:
                it.connect(tuple(address))
                it.send(b"PING")

        attempt(connect)
