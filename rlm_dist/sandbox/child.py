"""The start of the REPL process, run by path: ``python -P -s -S child.py SOCKET_FD CONTEXT_FD``.

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
    sys.path.remove(here)
    loop.main(int(sys.argv[1]), int(sys.argv[2]))
