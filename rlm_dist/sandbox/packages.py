"""Optional libraries of the REPL (``RLM_SANDBOX_PACKAGES``), and where they lie."""

import importlib.util
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from rlm_dist.errors import SettingsError


class Packages(NamedTuple):
    """Libraries by the names they are imported by, and the folders they are imported from."""

    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def argument(self) -> str:
        """What the REPL's program is told of them, as JSON: ``{"names": [str], "folders": [str]}``."""
        return json.dumps(self._asdict())


NO_PACKAGES = Packages()


def find(names: Sequence[str]) -> Packages:
    """The installed libraries of these names.

    Raises:
        SettingsError: naming those that are not installed here.
    """
    found = {name: _folder(name) for name in names}
    missing = [name for name, folder in found.items() if folder is None]
    if missing:
        raise SettingsError((f"RLM_SANDBOX_PACKAGES: not installed here: {', '.join(missing)}",))
    return Packages(tuple(found), tuple({folder: None for folder in found.values() if folder is not None}))


def _folder(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    place = os.path.dirname(os.path.realpath(spec.origin))
    return os.path.dirname(place) if spec.submodule_search_locations else place
