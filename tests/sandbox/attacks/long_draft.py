"""A draft of the answer of eight million characters, which the worker would store after each block."""

answer["content"] = "d" * 8_000_000
