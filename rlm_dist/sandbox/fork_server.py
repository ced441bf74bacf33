"""The fork-server's program, run by its path.

Usage: ``python -P -s -S fork_server.py CONTROL_FD LEVEL PACKAGES FOLDER...``

PACKAGES are the optional libraries, in the form of ``Packages.argument``. Each FOLDER holds a library for the
lockdown. It is loaded by its path, because model-written code must not find it by its name.
"""

import importlib
import json
import os
import sys


def load_package(folder: str) -> None:
    """Import the package whose folder is ``folder``."""
    name = os.path.basename(folder)
    init_path = os.path.join(folder, "__init__.py")
    util = importlib.import_module("importlib.util")
    spec = util.spec_from_file_location(name, init_path, submodule_search_locations=[folder])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = util.module_from_spec(spec)
    spec.loader.exec_module(module)


def no_hooks(**functions: object) -> None:
    """Stand in for ``os.register_at_fork``: a fork of a process that has a single thread needs no hooks.

    Those of the standard library make new locks and random numbers, which takes as long as the fork itself.
    """


if __name__ == "__main__":
    os.register_at_fork = no_hooks  # until ``preload.standard_library`` is done
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    for package in sys.argv[4:]:
        load_package(package)
    inside = importlib.import_module("inside.fork_server")
    sys.path.remove(here)
    inside.main(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
