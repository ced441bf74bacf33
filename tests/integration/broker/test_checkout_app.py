"""``celery -A workers …`` in a checkout, as Celery's own documentation spells its commands."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.environment import PROJECT
from tests.support.redis_servers import RedisServer
from tests.support.waiting import wait_until

STOP_S = 60.0


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without our settings, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RLM_", "OPENAI_"))}
    return {**kept, **variables}


def celery(*arguments: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """One Celery command in the checkout."""
    command = [sys.executable, "-m", "celery", "-A", *arguments]
    return subprocess.run(
        command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=STOP_S, check=False
    )


def test_inspect_ping_reaches_a_worker_of_the_checkout(redis_server: RedisServer, tmp_path: Path) -> None:
    env = environment(RLM_REDIS_URL=redis_server.url, RLM_HOME=str(tmp_path))
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workers.sub",
        "worker",
        "-c",
        "1",
        "-n",
        "checkout@here",
    ]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=PROJECT, env=env, stdout=log, stderr=log) as worker,
    ):
        try:
            wait_until(lambda: "checkout@here" in celery("workers", "inspect", "ping", env=env).stdout)
        finally:
            worker.terminate()
            worker.wait(STOP_S)


def test_it_is_no_worker(tmp_path: Path) -> None:
    """It would take jobs that it has no task for, and throw them away."""
    env = environment(RLM_REDIS_URL="redis://127.0.0.1:1/0", RLM_HOME=str(tmp_path))
    done = celery("workers", "worker", env=env)
    assert done.returncode == 2, done.stderr
    assert "workers.root" in done.stderr
    assert "workers.sub" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["", "http://x"])
def test_a_bad_setting_is_named(address: str, tmp_path: Path) -> None:
    env = environment(RLM_REDIS_URL=address, RLM_HOME=str(tmp_path))
    done = celery("workers", "inspect", "ping", env=env)
    assert done.returncode == 2
    assert "RLM_REDIS_URL" in done.stderr
    assert "Traceback" not in done.stderr
