"""Multipath TCP, which Landlock's rules for TCP do not see."""

IPPROTO_MPTCP = 262
for family, address in facts["tcp"]:

    def connect():
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        with socket.socket(kind, socket.SOCK_STREAM, IPPROTO_MPTCP) as it:
            it.settimeout(1)
            it.connect(tuple(address))

    attempt(connect)
