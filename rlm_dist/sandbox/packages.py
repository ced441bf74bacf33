"""Optional libraries of the REPL (``RLM_SANDBOX_PACKAGES``), and the folders that hold them."""

import importlib.util
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from rlm_dist.errors import SettingsError


class Packages(NamedTuple):
    """The import names of the libraries, and the folders that they are imported from."""

    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def argument(self) -> str:
        """The argument for the REPL's program, as JSON: ``{"names": [str], "folders": [str]}``."""
        return json.dumps(self._asdict())


NO_PACKAGES = Packages()


def find(names: Sequence[str]) -> Packages:
    """The installed libraries with these import names.

    Raises:
        SettingsError: some are not installed here; the error names them.
    """
    folders = {name: _folder(name) for name in names}
    missing = [name for name, folder in folders.items() if folder is None]
    if missing:
        raise SettingsError((f"RLM_SANDBOX_PACKAGES: not installed here: {', '.join(missing)}",))
    unique = dict.fromkeys(folder for folder in folders.values() if folder is not None)
    return Packages(tuple(folders), tuple(unique))


def _folder(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    folder = os.path.dirname(os.path.realpath(spec.origin))
    return os.path.dirname(folder) if spec.submodule_search_locations else folder
