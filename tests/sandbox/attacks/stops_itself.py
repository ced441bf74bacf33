"""A process that stops itself, which its parent learns and which does not end it."""

import signal

for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN):
    signal.raise_signal(number)
    signal.raise_signal(signal.SIGCONT)
threading.Timer(0.1, signal.raise_signal, [signal.SIGSTOP]).start()
signal.raise_signal(signal.SIGSTOP)
