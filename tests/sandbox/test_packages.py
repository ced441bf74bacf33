"""Optional libraries in the REPL: allowed ones work at every level, and they bring no others."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.sandbox.fork_server_start import start_at
from rlm_dist.sandbox.host import Sandbox, SandboxLimits
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import find
from rlm_dist.sandbox.probe import choose, probe
from rlm_dist.settings import load_settings
from tests.support.attacked_worker import PACKAGES
from tests.support.environment import PROJECT
from tests.support.sandboxes import echo, process_of, require, shown, write_context


@pytest.fixture(scope="module", params=Level)
def repl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A REPL with the packages at one level, for all tests."""
    level: Level = request.param
    require(level)
    assert level is Level.OFF or probe(level, find(PACKAGES)) == []
    context = write_context(tmp_path_factory.mktemp("packages") / "context", "str", ["a,b\n1,2\n1,4\n"])
    limits = SandboxLimits(code_timeout_s=30)
    with (
        closing(start_at(level, find(PACKAGES))) as start,
        Sandbox(context_path=context, query=echo, limits=limits, start=start) as sandbox,
    ):
        yield sandbox


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("import numpy as np\nprint(np.linalg.det(np.eye(3)), np.fft.fft([1, 0]).real)", "1.0 [1. 1.]"),
        ("import numpy as np\nprint(np.polynomial.Polynomial([1, 2])(3))", "7.0"),
        ("import numpy as np\nprint(np.random.rand())", "0.5488135039273248"),
        ("import numpy as np\nprint(np.random.default_rng(0).integers(1, 2))", "1"),
        ("import io, pandas as pd\nprint(pd.read_csv(io.StringIO(context)).groupby('a').b.sum()[1])", "6"),
        ("import pandas as pd\nprint(pd.DataFrame({'a': [1]}))", "   a\n0  1"),
        ("import pandas as pd\nprint(pd.DataFrame({'a': [1]}).to_csv(index=False))", "a\n1\n"),
        ("import pandas as pd\nprint(pd.DataFrame({'a': [1]}).to_json())", '{"a":{"0":1}}'),
        (
            "import pandas as pd\nprint(pd.Timestamp('2024-07-01 12:00').tz_localize('Europe/Berlin'))",
            "2024-07-01 12:00:00+02:00",
        ),
    ],
)
def test_what_is_allowed_works(repl: Sandbox, code: str, printed: str) -> None:
    assert shown(repl, code) == f"{printed}\n"


def test_arrays_start_no_threads(repl: Sandbox) -> None:
    tasks = Path(f"/proc/{process_of(repl)}/task")
    before = len(list(tasks.iterdir()))
    shown(repl, "import numpy as np\nnp.ones((500, 500)) @ np.ones((500, 500)) is None")
    assert len(list(tasks.iterdir())) == before


@pytest.mark.parametrize("module", ["redis", "pydantic", "_pytest", "rlm_dist", "landlockpy"])
def test_what_is_not_allowed_is_not_there(repl: Sandbox, module: str) -> None:
    result = repl.run(f"import {module}")
    assert f"ModuleNotFoundError: No module named '{module}'" in (result.error or "")


def test_the_folder_of_the_packages_is_not_on_the_import_path(repl: Sandbox) -> None:
    assert "site-packages" not in shown(repl, "import sys\nsys.path")


def test_without_the_setting_they_are_not_there(tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "str", [""])
    with (
        closing(start_at(Level.OFF)) as start,
        Sandbox(context_path=context, query=echo, limits=SandboxLimits(), start=start) as sandbox,
    ):
        assert "No module named 'numpy'" in (sandbox.run("import numpy").error or "")


def test_names_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_SANDBOX_PACKAGES", "numpy, pandas")
    assert load_settings().sandbox_packages == ("numpy", "pandas")
    monkeypatch.setenv("RLM_SANDBOX_PACKAGES", "")
    assert load_settings().sandbox_packages == ()
    monkeypatch.setenv("RLM_SANDBOX_PACKAGES", "scikit-learn")
    with pytest.raises(SettingsError, match=r"RLM_SANDBOX_PACKAGES: .*as they are imported"):
        load_settings()


def test_a_package_that_is_not_installed_is_an_error() -> None:
    for level in ("auto", "off"):
        with pytest.raises(SettingsError, match="RLM_SANDBOX_PACKAGES: not installed here: nowhere, neither"):
            choose(level, "seccomp", ("nowhere", "json", "neither"))


def test_a_package_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("raise OSError('no library of mine')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        SettingsError, match=r"seccomp does not work here: .* started: OSError: no library of mine\. It"
    ):
        choose("seccomp", "seccomp", ("broken_package",))


def test_a_root_worker_without_its_packages_does_not_start() -> None:
    settings = {"RLM_REDIS_URL": "redis://127.0.0.1:1/0", "RLM_SANDBOX_PACKAGES": "nowhere"}
    completed = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers.root", "worker"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **settings},
    )
    assert completed.returncode == 2
    assert "RLM_SANDBOX_PACKAGES: not installed here: nowhere" in completed.stderr
