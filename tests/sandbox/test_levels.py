"""Which level is chosen, and what a worker says if none is strong enough."""

import json
import os
import subprocess
import sys

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.sandbox import probe as probing
from rlm_dist.sandbox.level import LOCKED, Level
from rlm_dist.sandbox.probe import choose, probe
from tests.support.environment import PROJECT

CHOOSE = choose.__wrapped__  # without its cache


def working(monkeypatch: pytest.MonkeyPatch, *levels: Level) -> None:
    """Let these levels work here, and no others."""
    monkeypatch.setattr(probing, "probe", lambda level, _: [] if level in levels else ["a file was read"])


def test_levels_are_ordered_by_strength() -> None:
    assert [level for level in Level if level.is_at_least(Level.LANDLOCK)] == [
        Level.NAMESPACES,
        Level.LANDLOCK,
    ]
    assert all(level.is_at_least(Level.OFF) for level in Level)
    assert [level.isolation for level in Level] == ["namespaces", "landlock", "seccomp", "none"]


@pytest.mark.parametrize("best", LOCKED)
def test_auto_takes_the_strongest_that_works(monkeypatch: pytest.MonkeyPatch, best: Level) -> None:
    working(monkeypatch, *LOCKED[LOCKED.index(best) :])
    assert CHOOSE("auto", "seccomp") == best


def test_a_named_level_is_taken_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    working(monkeypatch, *LOCKED)
    assert CHOOSE("seccomp", "seccomp") == Level.SECCOMP


def test_a_named_level_that_does_not_work_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    working(monkeypatch, Level.SECCOMP)
    with pytest.raises(
        SettingsError, match=r"landlock does not work here: a file was read\. It needs: a kernel"
    ):
        CHOOSE("landlock", "seccomp")


def test_nothing_that_works_is_an_error_which_says_what_would_mend_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    working(monkeypatch, Level.SECCOMP)
    with pytest.raises(SettingsError) as raised:
        CHOOSE("auto", "landlock")
    namespaces, landlock, off = raised.value.problems
    assert "namespaces does not work here: a file was read" in namespaces
    assert "bubblewrap" in namespaces
    assert "RuntimeDefault" in landlock
    assert "RLM_SANDBOX=off" in off


def test_a_level_weaker_than_the_least_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    working(monkeypatch, *LOCKED)
    for setting in ("seccomp", "off"):
        with pytest.raises(SettingsError, match=rf"{setting} is weaker than RLM_SANDBOX_MIN \(landlock\)"):
            CHOOSE(setting, "landlock")


def test_off_is_taken_only_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    working(monkeypatch)
    assert CHOOSE("off", "seccomp") == Level.OFF
    with pytest.raises(SettingsError):
        CHOOSE("auto", "off")


def test_the_probe_finds_what_a_plain_process_can_do() -> None:
    assert probe(Level.OFF) != []


# The system calls that a container denies. Docker's and Kubernetes' default: no new namespace.
NO_NAMESPACES = ("unshare", "mount", "pivot_root", "setns", "umount2")
NO_LANDLOCK = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
CONTAINER = """
import errno, json, sys
import seccompy
from seccompy import CmpOp
rules = seccompy.Filter()
for name in json.loads(sys.argv[1]):
    rules.errno(name, errno.ENOSYS if name.startswith("landlock") else errno.EPERM)
rules.errno("clone", errno.EPERM, args=[(0, CmpOp.MASKED_EQ, 0x10000000, 0x10000000)])
rules.errno("clone3", errno.ENOSYS)
rules.load()
from rlm_dist.errors import SettingsError
from rlm_dist.sandbox.probe import choose
try:
    print(choose("auto", "seccomp"))
except SettingsError as error:
    print("none:", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no level works here")
@pytest.mark.parametrize(
    ("denied", "expected"),
    [
        (NO_NAMESPACES, "landlock"),
        ((*NO_NAMESPACES, *NO_LANDLOCK), "seccomp"),
        ((*NO_NAMESPACES, *NO_LANDLOCK, "seccomp"), "none:"),
    ],
)
def test_a_container_that_denies_more_gets_a_weaker_level(denied: tuple[str, ...], expected: str) -> None:
    """The same kernel with system calls denied, as container engines deny them."""
    completed = subprocess.run(
        [sys.executable, "-c", CONTAINER, json.dumps(denied)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)},
    )
    assert completed.stdout.split()[0] == expected, completed.stdout


def test_a_root_worker_with_too_weak_a_level_does_not_start() -> None:
    settings = {
        "RLM_REDIS_URL": "redis://127.0.0.1:1/0",
        "RLM_SANDBOX": "seccomp",
        "RLM_SANDBOX_MIN": "landlock",
    }
    completed = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers.root", "worker"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **settings},
    )
    assert completed.returncode == 2
    assert "RLM_SANDBOX: seccomp is weaker than RLM_SANDBOX_MIN (landlock) allows" in completed.stderr
