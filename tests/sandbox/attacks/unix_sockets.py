"""UNIX sockets, by their path and by an abstract name, of every kind."""

for kind, path in facts["unix"]:
    address = path.replace("@", "\0") if path.startswith("@") else path

    def connect():
        with socket.socket(socket.AF_UNIX, kind) as it:
            it.settimeout(1)
            it.connect(address)
            it.send(b"x")

    attempt(connect)
