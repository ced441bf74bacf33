"""TCP Fast Open: a connection by sendto alone, which no rule about connect sees."""

MSG_FASTOPEN = 0x20000000
for family, address in facts["tcp"]:

    def send():
        with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET) as it:
            it.settimeout(1)
            it.sendto(b"x", MSG_FASTOPEN, tuple(address))

    attempt(send)
