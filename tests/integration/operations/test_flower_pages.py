"""Our pages inside Flower, over HTTP: what they show, what they hide, and what they refuse."""

import re
import urllib.request
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
from flower import urls  # type: ignore[import-untyped]  # Flower ships no types

from rlm_dist import Client, Settings
from rlm_dist.broker.app import ROOT_QUEUE
from rlm_dist.operations.flower.frame import FrameLoader, RlmJobLink
from rlm_dist.schema import BatchState, JobState
from rlm_dist.store import Store, connect
from tests.support.flower_pages import (
    HOSTILE,
    RUNNING,
    SCOPE,
    SECRET,
    Pages,
    fill,
    flower,
    run_one,
    turn,
    use_endpoint,
)
from tests.support.redis_servers import RedisServer

USER = "ann:secret"
JOBS = 120
ALL_PAGES = (
    "/rlm", "/rlm/batches", "/rlm/batches/one", "/rlm/batches/live", "/rlm/batches/one?q=name",
    "/rlm/batches/one?order=cost&desc=1", "/rlm/jobs", "/rlm/jobs/jone000001", "/rlm/jobs/jone000004",
    f"/rlm/jobs/{RUNNING}", f"/rlm/jobs/{RUNNING}?live=1", "/rlm/endpoints", "/rlm/compare",
    "/rlm/compare?a=one&b=two", "/rlm/compare?a=one&b=two&only=1", "/rlm/batches/one/cancel",
    f"/rlm/jobs/{RUNNING}/cancel", "/rlm/batches/none",
)  # fmt: skip


@pytest.fixture(scope="module")
def filled(redis_server: RedisServer) -> Iterator[Store]:
    with (
        connect(redis_server.url, client_name="test") as client,
        connect(redis_server.admin_url, client_name="test-admin") as admin,
    ):
        admin.flushall()
        store = Store(client, retention_s=1000)
        fill(store, "one", JOBS)
        fill(store, "two", JOBS, seed=3)
        run_one(store)
        use_endpoint(store)
        yield store
        admin.flushall()


@pytest.fixture(scope="module")
def pages(redis_server: RedisServer, filled: Store) -> Iterator[Pages]:
    """Read-only, with a password and a prefix."""
    with flower(redis_server.url, user=USER, FLOWER_URL_PREFIX="/watch") as opened:
        yield Pages(opened.url, USER)


@pytest.fixture(scope="module")
def open_pages(redis_server: RedisServer, filled: Store) -> Iterator[Pages]:
    """Read-write, with content, and without a password."""
    with flower(redis_server.url, "--read-write", "--show-content") as opened:
        yield opened


def names(text: str) -> list[str]:
    """The custom ids that a table of jobs links."""
    return [unescape(name) for name in re.findall(r'class="name"><a href="[^"]*"><bdi>([^<]*)', text)]


def linked(text: str, rel: str) -> str | None:
    """The path behind Next or Previous."""
    found = re.search(rf'rel="{rel}" href="([^"#]*)', text)
    return unescape(found[1]).removeprefix("/watch") if found else None


def test_no_page_answers_without_the_password(pages: Pages) -> None:
    stranger = Pages(pages.url)
    for path in (*ALL_PAGES, "/rlm/batches/events", "/rlm/jobs/jone000001/events"):
        assert stranger.get(path).code == 401, path
    assert stranger.post("/rlm/batches/live/pause", {}).code in (401, 403)


@pytest.mark.parametrize("path", ALL_PAGES)
def test_without_content_no_answer_has_any(pages: Pages, path: str) -> None:
    reply = pages.get(path)
    assert reply.code == {"/rlm/batches/none": 404}.get(path, 403 if path.endswith("/cancel") else 200)
    assert SECRET not in reply.text
    assert "Traceback" not in reply.text


def test_streams_have_no_content(pages: Pages) -> None:
    for path in ("/rlm/batches/events", "/rlm/jobs/jone000001/events"):
        request = urllib.request.Request(
            pages.url + path, headers={"Authorization": "Basic YW5uOnNlY3JldA=="}
        )
        with urllib.request.urlopen(request, timeout=30) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            event, data = stream.readline(), stream.readline()
        assert event.strip() in (b"event: changed", b"event: final")
        assert data == b"data: 1\n"


def test_with_content_a_job_shows_its_texts(open_pages: Pages) -> None:
    text = open_pages.get(f"/rlm/jobs/{RUNNING}").text
    for part in ("query", "reply", "prompt", "told"):
        assert f"{part} {SECRET}" in text
    assert f"ask {SECRET}" in open_pages.get("/rlm/jobs/jone000001").text


@pytest.mark.parametrize("path", [path for path in ALL_PAGES if path != "/rlm/batches/none"])
def test_hostile_texts_are_shown_as_text(open_pages: Pages, path: str) -> None:
    reply = open_pages.get(path)
    assert reply.code == 200
    assert "<script>alert" not in reply.text
    assert "\x1b" not in reply.text
    assert "\u202e" not in reply.text
    assert not re.search(r"<script(?![^>]*(src=|application/json))|\son[a-z]+=|\sstyle=", reply.text)
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert reply.headers["X-Frame-Options"] == "DENY"


def test_everything_is_loaded_from_flower_itself(pages: Pages) -> None:
    text = pages.get("/rlm/batches").text
    files = re.findall(r'(?:src|href)="([^"]+\.(?:js|css|ico)[^"]*)"', text)
    assert len(files) >= 7
    for file in files:
        assert file.startswith("/watch/"), file
        assert pages.get(file.removeprefix("/watch")).code == 200


def test_flowers_own_pages_link_ours_and_the_prefix_holds(pages: Pages) -> None:
    for path in ("/workers", "/tasks", "/rlm/batches"):
        text = pages.get(path).text
        for tab in ("batches", "jobs", "endpoints", "compare"):
            assert f'href="/watch/rlm/{tab}"' in text
        assert 'href="/watch/tasks"' in text


def test_a_batch_is_read_page_by_page_and_back(pages: Pages) -> None:
    seen, path = [], "/rlm/batches/one?state=succeeded"
    trail: list[list[str]] = []
    while path:
        text = pages.get(path).text
        trail.append(names(text))
        seen += trail[-1]
        path = linked(text, "next") or ""
    assert len(seen) == len(set(seen)) == JOBS * 4 // 5
    back = linked(text, "prev")
    assert back is not None
    assert names(pages.get(back).text) == trail[-2]


def test_jobs_are_filtered_sorted_and_found(pages: Pages) -> None:
    first = names(pages.get("/rlm/batches/one?order=cost&desc=1").text)[0]
    assert int(first.removeprefix("name-")) % 7 == 6
    assert len(names(pages.get("/rlm/batches/one?reason=ValueError").text)) == JOBS // 5
    assert names(pages.get("/rlm/batches/one?q=name-000007").text) == ["name-000007"]
    assert names(pages.get("/rlm/batches/one?q=jone000008").text) == ["name-000008"]
    bars = re.findall(
        r'href="/watch(/rlm/batches/one\?order=turns[^"#]*at_least[^"#]*)#jobs" title="(\d+) jobs',
        pages.get("/rlm/batches/one").text,
    )
    assert sum(int(count) for _, count in bars) == JOBS
    path, count = max(bars, key=lambda bar: int(bar[1]))
    assert len(names(pages.get(unescape(path)).text)) in (int(count), 50)


@pytest.mark.parametrize(
    "path",
    [
        "/rlm/batches/one?state=x", "/rlm/batches/one?order=x", "/rlm/batches/one?after=x",
        "/rlm/batches/one?after=W10.%00", "/rlm/batches/one?at_least=-1", "/rlm/batches/one?below=1e5",
        "/rlm/batches?n=0", "/rlm/batches?n=x", "/rlm/batches?n=99999999999999",
    ],
)  # fmt: skip
def test_bad_input_is_named(pages: Pages, path: str) -> None:
    reply = pages.get(path)
    assert reply.code == 400
    assert "must be" in reply.text or "is not one" in reply.text


@pytest.mark.parametrize(
    "path",
    [
        "/rlm/batches/no", "/rlm/jobs/no", "/rlm/jobs/no/events", "/rlm/batches/no/events",
        "/rlm/compare?a=one&b=no", "/rlm/x", "/rlm/static/../serve.py",
    ],
)  # fmt: skip
def test_what_does_not_exist_is_404(pages: Pages, path: str) -> None:
    assert pages.get(path).code == 404


def test_read_only_hides_and_refuses_every_change(pages: Pages, filled: Store) -> None:
    for path in ("/rlm/batches", "/rlm/batches/live", f"/rlm/jobs/{RUNNING}", "/rlm/endpoints"):
        text = pages.get(path).text
        assert "/pause" not in text
        assert "/cancel" not in text
        assert 'method="post"' not in text
    for path in (
        *(f"/rlm/batches/live/{action}" for action in ("pause", "resume", "cancel", "retry")),
        f"/rlm/jobs/{RUNNING}/cancel",
        "/rlm/endpoints",
    ):
        assert pages.post(path, {"url": SCOPE.url, "model": SCOPE.model, "in_flight": "1"}).code == 403
    assert filled.batches.get("live").state is BatchState.RUNNING
    assert filled.limits.ceilings() == []


def test_a_change_needs_the_token(open_pages: Pages, filled: Store) -> None:
    open_pages.get("/rlm/batches/live/pause")
    for fields in ({"_xsrf": ""}, {"_xsrf": "2|00000000|00000000000000000000000000000000|1"}):
        assert open_pages.post("/rlm/batches/live/pause", fields).code == 403
    assert open_pages.post("/rlm/batches/live/pause", {}, Cookie="").code == 403
    assert filled.batches.get("live").state is BatchState.RUNNING


def test_a_batch_is_paused_and_resumed(open_pages: Pages, filled: Store) -> None:
    confirm = open_pages.get("/rlm/batches/live/pause").text
    assert "Pause batch" in confirm
    assert open_pages.post("/rlm/batches/live/pause", {}).code == 200
    assert filled.batches.get("live").state is BatchState.PAUSED
    assert open_pages.post("/rlm/batches/live/resume", {}).code == 200
    assert filled.batches.get("live").state is BatchState.RUNNING


def test_a_batch_that_is_cancelled_leaves_no_message_in_the_queue(
    open_pages: Pages, filled: Store, redis_server: RedisServer, tmp_path: Path
) -> None:
    with Client(Settings(redis_url=redis_server.url, home=tmp_path)) as client:
        client.submit_batch([{"id": f"q{n}", "query": "q", "context": "c"} for n in range(3)], "waits")
        assert filled.connection.client.llen(ROOT_QUEUE) == 3
        open_pages.get("/rlm/batches/waits/cancel")
        assert open_pages.post("/rlm/batches/waits/cancel", {}).code == 200
        assert filled.batches.get("waits").state is BatchState.CANCELLED
        assert filled.connection.client.llen(ROOT_QUEUE) == 0


def test_jobs_without_an_answer_are_retried(open_pages: Pages, filled: Store) -> None:
    fill(filled, "again", 5)
    open_pages.get("/rlm/batches/again/retry")
    assert open_pages.post("/rlm/batches/again/retry", {}).code == 200
    assert filled.batches.get("again").counts[JobState.QUEUED] == 1


def test_ceilings_are_set_and_taken_back(open_pages: Pages, filled: Store) -> None:
    open_pages.get("/rlm/endpoints")
    form = {"url": SCOPE.url, "model": SCOPE.model, "in_flight": "7", "requests_per_min": ""}
    assert open_pages.post("/rlm/endpoints", form).code == 200
    (entry,) = filled.limits.ceilings()
    assert (entry.model, entry.ceilings.in_flight) == (SCOPE.model, 7)
    assert open_pages.post("/rlm/endpoints", {**form, "in_flight": "0"}).code == 400
    assert open_pages.post("/rlm/endpoints", {**form, "url": "nowhere"}).code == 400
    assert open_pages.post("/rlm/endpoints", {**form, "in_flight": ""}).code == 200
    assert filled.limits.ceilings() == []


def test_answers_that_differ_are_told_without_content(pages: Pages) -> None:
    text = pages.get("/rlm/compare?a=one&b=two&only=1").text
    differing = len([n for n in range(JOBS) if n % 3 == 0 and n % 5 != 4])
    assert re.search(rf"{differing}</span> other answer", text)
    assert len(re.findall(r'class="warn">other answer', text)) == differing
    assert HOSTILE not in text
    assert "+$0.0" in text


def test_a_stream_tells_of_the_next_turn(pages: Pages, filled: Store) -> None:
    request = urllib.request.Request(
        f"{pages.url}/rlm/jobs/{RUNNING}/events", headers={"Authorization": "Basic YW5uOnNlY3JldA=="}
    )
    with urllib.request.urlopen(request, timeout=30) as stream:
        assert stream.readline() == b"event: changed\n"
        stream.readline(), stream.readline()
        assert 'id="turn-9"' not in pages.get(f"/rlm/jobs/{RUNNING}").text
        turn(filled, 9)
        assert stream.readline() == b"event: changed\n"
        assert 'id="turn-9"' in pages.get(f"/rlm/jobs/{RUNNING}?live=1").text


def test_a_task_links_its_job() -> None:
    folder = urls.settings["template_path"]
    for name, added in (("navbar.html", "RlmLinks(active_tab)"), ("task.html", "RlmJobLink(task)")):
        source = FrameLoader(folder).load(name).code
        assert added in source, name
    application = SimpleNamespace(options=SimpleNamespace(url_prefix="w"))
    handler = SimpleNamespace(application=application, request=None, ui=None, locale=None, current_user=None)
    link = RlmJobLink(handler)  # type: ignore[arg-type]  # it reads nothing else
    assert 'href="/w/rlm/jobs/j1a"' in link.render(SimpleNamespace(args="job=j1a turn=2"))
    assert link.render(SimpleNamespace(args="('x',)")) == ""
