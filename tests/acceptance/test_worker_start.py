"""Workers started by hand report what is wrong at once, and need no options if all is right."""

import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rlm_dist.schema import Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.environment import PROJECT, clean_environment
from tests.support.redis_servers import RedisServer
from tests.support.waiting import wait_until
from tests.support.worker_processes import START_S

pytestmark = pytest.mark.acceptance

CONTEXT = "Who is number 1?\nWho is number 2?"
QUERY = "Label the first 2 lines."


def started(app: str, env: Mapping[str, str], *options: str) -> "subprocess.Popen[str]":
    """Run ``celery -A <app> worker`` with some options."""
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", app, "worker", *options],
        env={**clean_environment(), **env}, cwd=PROJECT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.parametrize("role", list(Role))
def test_a_worker_imports_nothing_from_the_folder_in_which_it_is_started(role: Role, tmp_path: Path) -> None:
    """A folder may be anybody's, and hold modules with the names of those that a worker imports."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in (
        "celery",
        "kombu",
        "redis",
        "rlm_dist",
        "sitecustomize",
        "uvloop",
        "aiohttp",
        "queue",
        "celeryconfig",
    ):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'hit')!r}, 'w').write({name!r})")
    command = Path(sys.executable).with_name("rlm-dist")
    settings = {"RLM_REDIS_URL": "redis://127.0.0.1:1/0", "RLM_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [str(command), "worker", role.value], env={**clean_environment(), **settings},
        cwd=folder, text=True, timeout=START_S, capture_output=True, check=False,
    )  # fmt: skip
    assert not (tmp_path / "hit").exists()
    assert (done.returncode, "127.0.0.1:1 cannot be reached" in done.stderr) == (5, True)


def test_a_sub_worker_with_more_slots_than_it_may_open_connections_does_not_start(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    settings = {"RLM_REDIS_URL": "redis://127.0.0.1:1/0", "RLM_HOME": str(tmp_path)}
    worker = started("workers.sub", settings, "-c", str(hard))
    said, _ = worker.communicate(timeout=START_S)
    assert worker.returncode == 2
    assert f"RLM_SUB_CONCURRENCY or -c: {hard:,} calls at once need" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("app", ["workers.root", "workers.sub"])
def test_a_wrong_redis_address_is_told_without_its_password(app: str, tmp_path: Path) -> None:
    worker = started(app, {"RLM_REDIS_URL": "redis://:hush@127.0.0.1:1/0", "RLM_HOME": str(tmp_path)})
    said, _ = worker.communicate(timeout=START_S)
    assert worker.returncode == 5
    assert "Redis at 127.0.0.1:1 cannot be reached" in said
    assert "hush" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"RLM_MAX_ITERATIONS": "abc"}, "RLM_MAX_ITERATIONS"),
        ({}, "RLM_REDIS_URL"),
        ({"RLM_REDIS_URL": "http://x"}, "RLM_REDIS_URL"),
    ],
)
def test_a_bad_setting_is_named(env: Mapping[str, str], words: str, tmp_path: Path) -> None:
    worker = started("workers.root", {**env, "RLM_HOME": str(tmp_path)})
    said, _ = worker.communicate(timeout=START_S)
    assert worker.returncode == 2
    assert words in said
    assert "Traceback" not in said


def test_a_root_worker_takes_up_jobs_again_whatever_queue_it_was_given(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Even with ``-Q rlm.root`` it recovers jobs whose worker died."""
    env = {"RLM_REDIS_URL": redis_server.url, "RLM_HOME": str(tmp_path)}
    log = tmp_path / "log"
    worker = started("workers.root", env, "-Q", "rlm.root", "-c", "1", "-f", str(log))
    try:
        asked = [sys.executable, "-m", "celery", "-A", "workers.root", "inspect", "active_queues", "-j"]

        def queues() -> str:
            assert worker.poll() is None, worker.communicate()[0]
            return subprocess.run(
                asked,
                env={**clean_environment(), **env},
                cwd=PROJECT,
                text=True,
                capture_output=True,
                check=False,
            ).stdout

        wait_until(lambda: '"rlm.root.again"' in queues(), timeout_s=START_S)
    finally:
        worker.terminate()
        worker.communicate(timeout=START_S)


@pytest.mark.parametrize("role", list(Role))
def test_a_worker_refuses_to_autoscale(redis_server: RedisServer, tmp_path: Path, role: Role) -> None:
    env = {"RLM_REDIS_URL": redis_server.url, "RLM_HOME": str(tmp_path)}
    worker = started(f"workers.{role}", env, "--autoscale=3,1")
    said, _ = worker.communicate(timeout=START_S)
    assert worker.returncode == 2
    assert f"--autoscale: a {role} worker is one process" in said
    assert f"RLM_{role.name}_CONCURRENCY" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("role", list(Role))
def test_spans_that_are_asked_for_and_cannot_be_sent_are_said_once(
    make_bench: MakeBench, tmp_path: Path, role: Role
) -> None:
    """As if the extra were not installed; by the worker, not by each process of its pool."""
    shadow = tmp_path / "shadow" / "opentelemetry"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ImportError")
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "a=hush"}
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        worker = bench.start(role, concurrency=2, PYTHONPATH=f"{shadow.parent}:{PROJECT}", **asked)
        bench.wait_ready()
    assert worker.text().count("pip install 'rlm-dist[otel]'") == 1
    assert "hush" not in worker.text()
