"""Which Celery applications there are, and where: an installed one and, in a checkout, one beside it."""

import subprocess
import sys
import tomllib

import pytest

from rlm_dist.broker.app import worker_argv
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from tests.support.environment import PROJECT


@pytest.mark.parametrize("role", list(Role))
def test_installed_commands_start_the_application_of_the_package(role: Role) -> None:
    argv = worker_argv(role, Settings())
    assert argv[argv.index("-A") + 1] == f"rlm_dist.{role}_worker.app"


def test_the_wheel_installs_no_top_level_package_but_ours() -> None:
    """Many users' own projects have a package named ``workers``."""
    find = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    # In a process of its own: setuptools takes the place of distutils in the one that imports it.
    code = f"import setuptools; print(*setuptools.find_namespace_packages(include={find['include']}))"
    packages = subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True).split()
    assert {name.partition(".")[0] for name in packages} == {"rlm_dist"}
    assert {"rlm_dist.root_worker", "rlm_dist.sub_worker", "rlm_dist.store.lua"} <= set(packages)


def test_the_applications_of_a_checkout_are_those_of_the_package() -> None:
    script = """if True:
        import workers
        from workers import root, sub
        from rlm_dist.root_worker import app as root_app
        from rlm_dist.sub_worker import app as sub_app
        assert (root.app, sub.app) == (root_app.app, sub_app.app)
        assert "rlm.root" in root.app.tasks and "rlm.sub" in sub.app.tasks
        assert "app" not in vars(workers)  # made when it is asked for
        assert workers.app is workers.app
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT, env={"RLM_REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
