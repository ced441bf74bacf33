"""How this package starts Python processes of its own modules.

``python -m`` looks for modules in the current folder first, where a user's ``queue.py`` or ``redis.py`` would
be taken for another. Our children run with ``-P`` instead, and find this package where it was found here.
"""

import os
import sys
from pathlib import Path

_PACKAGES = Path(__file__).resolve().parents[1]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module; it needs ``import_variables`` in the environment."""
    return [sys.executable, "-P", "-m", module, *arguments]


def import_variables() -> dict[str, str]:
    """Return the environment variables that let a child import this package."""
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}
