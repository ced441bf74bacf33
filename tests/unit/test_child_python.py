"""Children find this package, and none of its modules on the top level."""

import subprocess
import sys
from pathlib import Path

import pytest

from rlm_dist.local.child_python import import_variables, worker_environment

CODE = "import importlib.util as u, rlm_dist; print(rlm_dist.__file__, u.find_spec('schema'))"


def test_a_child_imports_this_package_from_where_we_do(tmp_path: Path) -> None:
    """Run in another folder, and by an interpreter that sees no installed package."""
    folder = Path(import_variables()["PYTHONPATH"].split(":")[0])
    assert (folder / "rlm_dist" / "__init__.py").is_file()
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", CODE],
        cwd=tmp_path,
        env=import_variables(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(folder / "rlm_dist" / "__init__.py"), "None"]


def test_a_worker_gets_the_variables_of_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=x")
    assert worker_environment({})["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=x"
