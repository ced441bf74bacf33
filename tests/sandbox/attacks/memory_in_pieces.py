"""Memory until there is no more, in many pieces."""

pieces = []
attempt(lambda: [pieces.append(bytearray(1 << 20)) for _ in range(4000)], "4 GB in pieces")
pieces.clear()
