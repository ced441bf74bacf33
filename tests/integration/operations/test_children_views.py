"""The tree of jobs as people see it: in the trace, on its page, and in Flower."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.schema import JobState, Outcome
from rlm_dist.store import Store, connect
from tests.support.command_line import Cli
from tests.support.flower_pages import flower
from tests.support.store_values import LEASE_MS, finish_job, opens, running_job, settlement, spec, start_job


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """A job j with 1002 children, of which c0 has ended and has a child g."""
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        epoch = running_job(store)
        fields = {"parent_id": "j", "depth": 1}
        store.children.open("j", epoch, [spec(f"c{n}").model_copy(update=fields) for n in range(1002)])
        child_epoch = start_job(store, "c0", "root-2", LEASE_MS) or 0
        lower = spec("g").model_copy(update={"parent_id": "c0", "depth": 2})
        store.children.open("c0", child_epoch, [lower])
        store.calls.open("c0", child_epoch, opens("a", "b"))
        store.calls.settle("c0", "sub", [settlement(name, nanousd=10**9) for name in "ab"])
        done = Outcome(state=JobState.SUCCEEDED, answer="x", iterations=3)
        finish_job(store, "c0", child_epoch, done)
        yield store


@pytest.fixture
def cli(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    monkeypatch.setenv("RLM_BLOB_URL", "redis")
    return Cli(capsys)


def test_a_trace_lists_the_children_and_names_the_parent(store: Store, cli: Cli) -> None:
    text = cli("trace", "j").out
    assert "child jobs:\n  c0: succeeded, 3 turns, 2 calls, $2.000000, " in text
    assert "  c999: queued, 0 turns, 0 calls, $0.000000\n  and 2 more\n" in text
    assert "costs: $2.000000, with those of child jobs" in text
    child = cli("trace", "c0").out
    assert child.startswith("child of j, at depth 1\n")
    assert "  g: cancelled, 0 turns" in child
    document = cli("trace", "g", "--json").document
    assert (document["parent_id"], document["children"]) == ("c0", [])
    rows = cli("trace", "j", "--json").document["children"]
    assert (len(rows), rows[0]["id"], rows[0]["costs"]["total_cost"]) == (1000, "c0", 2)


def test_a_page_lists_the_children_and_names_the_parent(store: Store, cli: Cli, tmp_path: Path) -> None:
    cli("trace", "j", "--html", str(tmp_path / "j.html"))
    page = (tmp_path / "j.html").read_text()
    assert '<a href="#children">' in page
    assert '<th scope="row"><bdi>c0</bdi></th>' in page
    assert "And 2 more." in page
    cli("trace", "g", "--html", str(tmp_path / "g.html"))
    page = (tmp_path / "g.html").read_text()
    assert "Child of job <bdi>c0</bdi>" in page
    assert 'href="#children"' not in page


def test_flower_links_the_children_and_the_parent(store: Store, redis_url: str) -> None:
    with flower(redis_url) as pages:
        assert (
            '<th scope="row"><a href="/rlm/jobs/c0"><bdi>c0</bdi></a></th>' in pages.get("/rlm/jobs/j").text
        )
        assert 'Child of job <a href="/rlm/jobs/j"><bdi>j</bdi></a>' in pages.get("/rlm/jobs/c0").text
