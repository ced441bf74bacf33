"""The start of a REPL that is not locked, run by path: ``python -P -s -S child.py SOCKET_FD CONTEXT_FD``.

Only ``inside`` is imported, and the folder it lies in does not stay on the import path: model-written code
sees the standard library alone.
"""

import importlib
import os
import sys

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    loop = importlib.import_module("inside.loop")
    confine = importlib.import_module("inside.confine")
    sys.path.remove(here)
    descriptors = [int(number) for number in sys.argv[1:]]
    sys.argv = [""]
    sys.dont_write_bytecode = True
    confine.tie_to_parent()
    confine.first_to_go()
    loop.main(*descriptors)
