"""``metrics backlog``: the numbers as text and as JSON."""

import pytest

from rlm_dist.schema import Role
from rlm_dist.store import Store, connect
from tests.support.command_line import Cli
from tests.support.store_values import LEASE_MS, running_job, spec


def test_the_backlog_is_shown(
    redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    cli = Cli(capsys)
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        running_job(store, "j1")
        store.jobs.create([spec("j2")])
        store.workers.announce_slots("root-1", 1, LEASE_MS, role=Role.ROOT)
        client.lpush("rlm.root", "a message")
        document = cli("metrics", "backlog", "--json").document
        lines = cli("metrics", "backlog").out.splitlines()
    assert (document["jobs_waiting"], document["jobs_running"], document["root_slots"]) == (1, 1, 1)
    assert document["messages"]["rlm.root:normal"] == 1
    assert ["jobs_waiting", "1"] in [line.split() for line in lines]
