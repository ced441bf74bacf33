"""How this package starts Python processes that run its own modules.

``python -m`` looks for modules in the current folder first, and would import a user's ``queue.py`` or
``redis.py`` in place of the real one. Our children run with ``-P`` instead, and import this package from the
same place as we do. Workers also leave the user's folder, since Celery imports its application from the
current one.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_PACKAGES = Path(__file__).resolve().parents[2]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module; it needs ``import_variables`` in the environment."""
    return [sys.executable, "-P", "-m", module, *arguments]


def import_variables() -> dict[str, str]:
    """Return the environment variables that let a child import this package."""
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def worker_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a child that gets these settings as variables, and reads no file."""
    own = {name: value for name, value in os.environ.items() if name != "RLM_ENV_FILE"}
    return own | import_variables() | dict(settings)
