"""Modules that are not of the standard library, by every way to import one."""

import importlib
import importlib.util

for name in ("rlm_dist", "redis", "pydantic", "seccompy", "landlockpy", "fork_server"):
    attempt(lambda: importlib.import_module(name), f"import {name}")
for path in facts["project"]:
    sys.path.insert(0, path)
importlib.invalidate_caches()
for name in ("rlm_dist", "redis", "pydantic", "seccompy", "secret_module"):
    attempt(lambda: importlib.import_module(name), f"import {name} by its folder")
attempt(lambda: ctypes.CDLL(facts["library"]), "a library of the host")
