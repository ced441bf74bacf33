"""Attacks by model-written code on a worker, at every level of this machine, as root and as nobody.

Each attack is a small file in ``attacks``; what counts is what the attacked worker sees of it.
"""

import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlm_dist.sandbox.level import LOCKED, Level
from tests.support.attacked_worker import ATTACKS, PACKAGES, SECRET
from tests.support.environment import PROJECT
from tests.support.sandboxes import require

NOBODY = 65534
NAMES = sorted(path.stem for path in ATTACKS.glob("[a-z]*.py"))
# These use the system call numbers or the machine code of one kind of processor.
OF_X86 = ("machine_code", "raw_forks", "signals", "stolen_descriptors", "system_calls")


# These have nothing to reach, or are stopped by resource limits and a separate plain process.
HARMLESS = {
    "descriptors", "endless_regex", "endless_sum", "environment", "forged_frames", "masked_signals",
    "memory_at_once", "memory_in_pieces", "messages_with_descriptors", "output", "pokes",
    # Each plain process has descriptors of its own; the host stops the others by itself.
    "calls_that_fail", "deaf", "deep_frames", "flags_of_open_files", "forged_report", "half_a_frame",
    "long_draft", "many_tiny_prompts", "many_tiny_values", "stops_itself",
}  # fmt: skip


class Setting(NamedTuple):
    """How attacks are run: the level, and whether the worker is nobody or the user who runs the tests.

    If the worker is not nobody, optional libraries are loaded and REPLs share the memory of a large context:
    that is more in a REPL's memory, not more rights.
    """

    level: Level
    nobody: bool

    @property
    def arguments(self) -> tuple[str, ...]:
        """The worker's arguments after the level and its folder."""
        return ("0",) if self.nobody else ("1", *PACKAGES)


class Worker:
    """The stand-in worker as a process."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._secret = secrets.token_hex(16)
        command = [
            python_for_nobody() if setting.nobody else sys.executable,
            "-m",
            "tests.support.attacked_worker",
        ]
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if setting.nobody else {}
        self._process = subprocess.Popen(
            [*command, setting.level, str(folder), *setting.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env={"PATH": os.defpath, SECRET: self._secret, "PYTHONPATH": os.pathsep.join(import_paths())},
            **user,  # type: ignore[call-overload]
        )

    def attacked(self, name: str) -> dict[str, Any]:
        """Run one attack on it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the worker was killed, or broke down"
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Stop it."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


def import_paths() -> list[str]:
    return [str(PROJECT), str(Path(pytest.__file__).parents[1])]


def python_for_nobody() -> str:
    """A Python that nobody can run and that can import this project; skips the test if there is none."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (os.path.realpath(sys.executable), shutil.which(version, path="/usr/bin:/usr/local/bin")):
        if python is None:
            continue
        code = "import sys, rlm_dist.schema, tests.support; print(sys.version_info[:2])"
        try:
            tried = subprocess.run(
                [python, "-c", code],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                env={"PYTHONPATH": os.pathsep.join(import_paths())},
                capture_output=True,
                text=True,
            )
        except PermissionError:
            continue
        if tried.returncode == 0 and tried.stdout.strip() == str(sys.version_info[:2]):
            return python
    pytest.skip("LOUD: no Python here that the user nobody can run with this project: not tried as nobody")


@pytest.fixture(
    scope="module",
    params=[Setting(level, nobody) for level in LOCKED for nobody in (False, True)],
    ids=lambda setting: f"{setting.level}-{'nobody' if setting.nobody else 'user'}",
)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """A stand-in worker at one level, for all attacks."""
    setting: Setting = request.param
    if setting.nobody and os.geteuid() != 0:
        pytest.skip("the tests do not run as root: they are nobody already")
    require(setting.level)
    yield from _running(setting)


def _running(setting: Setting) -> Iterator[Worker]:
    with tempfile.TemporaryDirectory(prefix="rlm-attacked-") as folder:
        os.chmod(folder, 0o755)  # the level has to stop it, not the mode
        if setting.nobody:
            os.chown(folder, NOBODY, NOBODY)
        worker = Worker(setting, Path(folder))
        try:
            yield worker
        finally:
            worker.close()


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_hits_nothing(worker: Worker, name: str) -> None:
    if name in OF_X86 and platform.machine() != "x86_64":
        pytest.skip("the numbers in it are those of x86_64")
    found = worker.attacked(name)
    assert found["hits"] == [], found
    assert found["seconds"] < 60


def test_the_document_counts_the_attacks() -> None:
    text = (PROJECT / "docs/sandbox.md").read_text()
    assert f"runs {len(NAMES)} attacks" in text
    assert f"; {len(HARMLESS)} of them are\nleft out" in text


@pytest.fixture(scope="module")
def open_worker() -> Iterator[Worker]:
    """A stand-in worker without protection; it runs as nobody, so that no attack harms the machine."""
    yield from _running(Setting(Level.OFF, nobody=os.geteuid() == 0))


@pytest.mark.parametrize("name", sorted({*NAMES} - HARMLESS))
def test_the_same_attack_hits_a_worker_without_a_level(open_worker: Worker, name: str) -> None:
    """This gives the attacks that hit nothing their meaning."""
    if name in OF_X86 and platform.machine() != "x86_64":
        pytest.skip("the numbers in it are those of x86_64")
    found = open_worker.attacked(name)
    assert found["hits"] != [], found
