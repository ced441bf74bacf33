"""Code that takes no notice of being interrupted."""

import signal

for number in range(1, 65):
    attempt(lambda: signal.signal(number, signal.SIG_IGN))
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True:
    pass
