"""What runs in the REPL process, imported by path; may import nothing of ours.

Beside the standard library it imports landlockpy and seccompy, which confine it. No secret is ever in its
memory. The host imports nothing from here but the frame format (``frames``) and the exit codes (``exits``).
"""
