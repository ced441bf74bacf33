"""The program of a REPL that is not locked, run by its path.

Usage: ``python -P -s -S child.py SOCKET_FD CONTEXT_FD PACKAGES``

It imports only ``inside`` and the optional libraries: PACKAGES, in the form of ``Packages.argument``. Their
folders do not stay on the import path, so that model-written code sees nothing else but the standard library.
"""

import importlib
import json
import os
import sys

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    loop = importlib.import_module("inside.loop")
    confine = importlib.import_module("inside.confine")
    preload = importlib.import_module("inside.preload")
    sys.path.remove(here)
    descriptors = [int(number) for number in sys.argv[1:3]]
    preload.packages(**json.loads(sys.argv[3]))
    sys.argv = [""]
    sys.dont_write_bytecode = True
    confine.tie_to_parent()
    confine.first_to_go()
    loop.main(*descriptors)
