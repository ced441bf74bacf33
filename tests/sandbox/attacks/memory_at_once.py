"""4 GB in one allocation."""

block = attempt(lambda: bytearray(4 << 30), "4 GB")
