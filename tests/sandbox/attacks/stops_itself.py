"""A process that stops itself, which is told to its parent and does not end it."""

import signal

for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN):
    signal.raise_signal(number)
    signal.raise_signal(signal.SIGCONT)
threading.Timer(0.1, signal.raise_signal, [signal.SIGSTOP]).start()
signal.raise_signal(signal.SIGSTOP)
