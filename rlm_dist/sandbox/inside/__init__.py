"""What runs in the REPL process: standard library only, imported by path, no secret ever in its memory.

The host takes nothing from here but the frame format (``frames``).
"""
