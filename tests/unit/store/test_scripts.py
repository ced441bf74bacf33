"""The Lua files follow their form, and the loader knows all of them."""

from importlib import resources

import pytest
import redis

from rlm_dist.errors import Unreachable
from rlm_dist.store import reaching
from rlm_dist.store.scripts import register

FOLDER = resources.files("rlm_dist.store") / "lua"
PRELUDES = {
    "prelude.lua",
    "prelude_bookable.lua",
    "prelude_budgets.lua",
    "prelude_calls.lua",
    "prelude_jobs.lua",
    "prelude_ledger.lua",
    "prelude_limits.lua",
    "prelude_limits_ceilings.lua",
    "prelude_limits_circuit.lua",
    "prelude_limits_cuts.lua",
    "prelude_limits_history.lua",
    "prelude_limits_raises.lua",
    "prelude_limits_shares.lua",
    "prelude_lists.lua",
    "prelude_logs.lua",
    "prelude_retry.lua",
    "prelude_tree.lua",
}
FILES = sorted(file.name for file in FOLDER.iterdir())


def test_every_file_is_registered() -> None:
    names = {f"{name}.lua" for name in register(redis.Redis())}
    assert names | PRELUDES == set(FILES)


@pytest.mark.parametrize("name", sorted(set(FILES) - PRELUDES))
def test_a_script_is_short_and_says_what_it_is(name: str) -> None:
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    head = "\n".join(line for line in lines if line.startswith("--"))
    assert len(lines) <= 60
    assert all(word in head for word in ("ARGV:", "Returns", "Atomic:"))
    assert "KEYS:" in head or name.startswith(("job_", "calls_"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (redis.exceptions.BusyLoadingError("LOADING"), "loading"),
        (redis.ResponseError("MISCONF Errors writing to the AOF file"), "save to its disk"),
        (redis.TimeoutError("Timeout reading from socket"), "in time"),
    ],
)
def test_a_server_that_cannot_serve_is_unreachable(error: Exception, words: str) -> None:
    with pytest.raises(Unreachable, match=words), reaching(redis.Redis(host="h", port=1)):
        raise error


def test_an_error_of_our_own_is_not_hidden() -> None:
    with pytest.raises(redis.ResponseError), reaching(redis.Redis()):
        raise redis.ResponseError("WRONGTYPE Operation against a key")
