"""The Lua scripts: one file an operation, registered with a client once; those of jobs share a prelude."""

from functools import cache
from importlib import resources

import redis
from redis.commands.core import Script

_NAMES = (
    "batch_create",
    "batch_mark",
    "calls_claim",
    "calls_lost",
    "calls_open",
    "calls_renew",
    "calls_settle",
    "due",
    "job_blob",
    "job_cancel",
    "job_create",
    "job_events",
    "job_finish",
    "job_hits",
    "job_journal",
    "job_renew",
    "job_start",
    "slots_announce",
    "slots_live",
)


def register(client: redis.Redis) -> dict[str, Script]:
    """All scripts by name: called by their hash, and loaded again where the server has forgotten them."""
    return {name: client.register_script(_source(name)) for name in _NAMES}


@cache
def _source(name: str) -> str:
    folder = resources.files(__package__) / "lua"
    script = (folder / f"{name}.lua").read_text("utf-8")
    if name.startswith(("job_", "calls_")):
        return (folder / "prelude.lua").read_text("utf-8") + script
    return script
