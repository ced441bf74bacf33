"""The Lua scripts: one file per operation, registered with a client once. Scripts of one kind share preludes.

A script's preludes are put before its text, so that the server gets one script.
"""

from functools import cache
from importlib import resources

import redis
from redis.commands.core import Script

_NAMES = (
    "batch_budget",
    "batch_create",
    "batch_mark",
    "blobs_keep",
    "cache_leave",
    "cache_take",
    "calls_claim",
    "calls_keep",
    "calls_lost",
    "calls_open",
    "calls_renew",
    "calls_reserve",
    "calls_return",
    "calls_settle",
    "calls_stop",
    "ceilings_set",
    "job_blob",
    "job_cancel",
    "job_children",
    "job_count",
    "job_create",
    "job_delete",
    "job_diverged",
    "job_events",
    "job_finish",
    "job_journal",
    "job_keep",
    "job_list",
    "job_park",
    "job_renew",
    "job_retry",
    "job_stall",
    "job_start",
    "job_tool",
    "lapsed",
    "limits_share",
    "list_entries",
    "messages_drop",
    "requests_announce",
    "slots_announce",
    "slots_live",
    "waiting",
    "webhook_done",
    "webhook_take",
)
_PRELUDES = (
    ("job_", "prelude.lua"),
    ("job_", "prelude_tree.lua"),
    ("job_", "prelude_lists.lua"),
    ("job_", "prelude_jobs.lua"),
    ("job_events", "prelude_logs.lua"),
    ("job_finish", "prelude_logs.lua"),
    ("job_journal", "prelude_logs.lua"),
    ("calls_", "prelude.lua"),
    ("calls_", "prelude_tree.lua"),
    ("calls_", "prelude_calls.lua"),
    ("job_retry", "prelude_calls.lua"),
    ("job_retry", "prelude_retry.lua"),
    ("job_children", "prelude_calls.lua"),
    ("job_children", "prelude_budgets.lua"),
    ("job_children", "prelude_retry.lua"),
    ("calls_", "prelude_budgets.lua"),
    ("calls_", "prelude_ledger.lua"),
    ("calls_open", "prelude_logs.lua"),
    ("calls_settle", "prelude_bookable.lua"),
    ("calls_settle", "prelude_lists.lua"),
    ("limits_", "prelude_limits.lua"),
    ("limits_", "prelude_limits_ceilings.lua"),
    ("limits_", "prelude_limits_history.lua"),
    ("limits_", "prelude_limits_cuts.lua"),
    ("limits_", "prelude_limits_raises.lua"),
    ("limits_", "prelude_limits_circuit.lua"),
    ("limits_", "prelude_limits_shares.lua"),
)


def register(client: redis.Redis) -> dict[str, Script]:
    """All scripts by name; each is called by its hash, and loaded again if the server has forgotten it."""
    return {name: client.register_script(source(name)) for name in _NAMES}


@cache
def source(name: str) -> str:
    """The text of a script, with its preludes before it."""
    folder = resources.files(__package__) / "lua"
    script = (folder / f"{name}.lua").read_text("utf-8")
    preludes = [prelude for prefix, prelude in _PRELUDES if name.startswith(prefix)]
    return "".join([*((folder / prelude).read_text("utf-8") for prelude in preludes), script])
