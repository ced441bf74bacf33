"""``env``: Celery's own commands find the cluster by what it prints."""

import shlex
from pathlib import Path

import pytest

from rlm_dist.local.cluster import hold_up
from rlm_dist.local.redis.server import server
from tests.support.command_line import Cli


def test_the_variables_of_a_cluster_that_is_up_are_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "my home"
    monkeypatch.setenv("RLM_HOME", str(home))
    monkeypatch.delenv("RLM_REDIS_URL", raising=False)
    cli = Cli(capsys)
    done = cli("env")
    assert (done.code, done.out) == (2, "")
    assert "rlm-dist up" in done.err
    with server(home) as url, hold_up(home):
        assert cli("env", "--json").document == {"RLM_HOME": str(home), "RLM_REDIS_URL": url}
        words = shlex.split(cli("env").out)
    assert words == ["export", f"RLM_HOME={home}", "export", f"RLM_REDIS_URL={url}"]
