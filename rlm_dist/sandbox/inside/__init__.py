"""What runs in the REPL process: imported by path, no secret ever in its memory; may import nothing of ours.

Beside the standard library it imports landlockpy and seccompy, which confine it.

The host takes nothing from here but the frame format (``frames``) and the exit codes (``exits``).
"""
