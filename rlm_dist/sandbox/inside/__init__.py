"""The code that runs in the REPL process and its fork-server: never with a secret in its memory.

It is imported by path, and imports only the standard library, its siblings and, in ``lockdown``, the two
lockdown libraries. The host imports only the frame format (``frames``) and the exit codes (``exits``).
"""
