"""The fork-server's program, run by its path.

Usage: ``python -P -s -S fork_server.py CONTROL_FD LEVEL PACKAGES FOLDER...``

PACKAGES are the optional libraries, in the form of ``Packages.argument``. Each FOLDER holds a library for the
lockdown. It is loaded by its path, because model-written code must not find it by its name.
"""

import importlib.util
import json
import os
import sys


def load_package(folder: str) -> None:
    """Import the package whose folder is ``folder``."""
    name = os.path.basename(folder)
    init_path = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location(name, init_path, submodule_search_locations=[folder])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    for package in sys.argv[4:]:
        load_package(package)
    inside = importlib.import_module("inside.fork_server")
    sys.path.remove(here)
    inside.main(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
