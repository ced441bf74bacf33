"""A live cluster watched in Flower, as an operator would: 30 jobs, slow answers, one page after another."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from rlm_dist.schema import BatchState, JobState, Role
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.simulated.server import Latency
from tests.support.bench import Bench, open_bench
from tests.support.browser import NARROW, tab
from tests.support.flower_pages import Pages, flower
from tests.support.redis_servers import RedisServer
from tests.support.waiting import wait_until

PATIENCE_MS = 60_000
PAGES = ("batches", "batches/one", "jobs", "endpoints", "compare?a=one&b=two")


@pytest.fixture(scope="module")
def cluster(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """30 jobs under way; each sub-call takes 2 s."""
    folder = tmp_path_factory.mktemp("live")
    with SimulatedEndpoint(latency=Latency(2.0)) as endpoint:
        bench = open_bench(redis_server, endpoint.url, folder / "bench")
        try:
            bench.start(Role.ROOT, concurrency=4)
            bench.start(Role.SUB, concurrency=16)
            bench.wait_ready()
            for name, jobs in (("one", 30), ("two", 2)):
                context = "\n".join(f"line {n} of {name}" for n in range(40))
                bench.client.submit_batch(
                    [
                        {"id": f"job-{n:02}", "query": "Do 12 sub-calls.", "context": context}
                        for n in range(jobs)
                    ],
                    name,
                )
            yield bench
            for name in ("one", "two"):
                bench.client.batch(name).cancel()
        finally:
            bench.close()


@pytest.fixture(scope="module")
def pages(redis_server: RedisServer, cluster: Bench) -> Iterator[Pages]:
    home = str(cluster.settings.home)
    with flower(redis_server.url, "--read-write", "--show-content", RLM_HOME=home) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, pages: Pages) -> Iterator[Page]:
    with tab(browser) as opened:
        opened.page.set_default_timeout(PATIENCE_MS)
        yield opened.page
        assert opened.errors == []


def not_reloaded(page: Page) -> None:
    """Fail if the page was loaded again since ``remember``."""
    assert page.evaluate("window.remembered") == 1


def remember(page: Page) -> None:
    """Mark the page as it is loaded now."""
    page.evaluate("window.remembered = 1")


def test_progress_moves_without_a_reload(page: Page, pages: Pages) -> None:
    page.goto(f"{pages.url}/rlm/batches")
    remember(page)
    ended = page.locator("article", has=page.locator("#batch-one")).locator(".counts .strong")
    first = int(ended.inner_text())
    page.wait_for_function(
        "first => +document.querySelector('[aria-labelledby=batch-one] .counts .strong').textContent > first",
        arg=first, timeout=PATIENCE_MS,
    )  # fmt: skip
    not_reloaded(page)


def test_a_live_turn_is_followed_and_the_job_cancelled(page: Page, pages: Pages, cluster: Bench) -> None:
    store = cluster.client.store
    job_id = wait_until(
        lambda: next((job.job_id for job in store.jobs.running() if job.batch_id == "one"), "")
    )
    page.goto(f"{pages.url}/rlm/batches/one")
    page.goto(f"{pages.url}/rlm/jobs/{job_id}")
    remember(page)
    expect(page.locator("article.turn").first).to_be_visible(timeout=PATIENCE_MS)
    turns = page.locator("article.turn").count()
    job = wait_until(lambda: store.jobs.get(job_id))
    if not job.state.final:
        page.wait_for_function(
            "turns => document.querySelectorAll('article.turn').length > turns"
            " || document.querySelector('.rlm-job h1 .badge').textContent !== 'running'",
            arg=turns, timeout=PATIENCE_MS,
        )  # fmt: skip
        not_reloaded(page)
    running = wait_until(lambda: store.jobs.running()[-1].job_id if store.jobs.running() else "")
    page.goto(f"{pages.url}/rlm/jobs/{running}/cancel")
    page.get_by_role("button", name="Cancel job").click()
    expect(page.locator(".rlm-job h1 .badge")).to_have_text("cancelled", timeout=PATIENCE_MS)
    assert store.jobs.get(running).state is JobState.CANCELLED


def test_a_limit_is_set_and_holds(page: Page, pages: Pages, cluster: Bench) -> None:
    page.goto(f"{pages.url}/rlm/endpoints")
    card = page.locator("article").first
    card.get_by_label("Calls in flight").fill("2")
    card.get_by_role("button", name="Set ceilings").click()
    expect(page.locator("article .facts .count-of").first).to_contain_text("2 calls in flight (set)")
    limits = cluster.client.store.limits
    (entry,) = limits.ceilings()
    wait_until(lambda: next(s.in_flight for s in limits.scopes() if s.model == entry.model) <= 2)
    expect(page.get_by_label("Calls in flight").first).to_have_value("2")


def test_a_batch_is_paused_and_resumed_by_keyboard(page: Page, pages: Pages, cluster: Bench) -> None:
    batches = cluster.client.store.batches
    for action, state in (("Pause", BatchState.PAUSED), ("Resume", BatchState.RUNNING)):
        page.goto(f"{pages.url}/rlm/batches/one")
        page.get_by_role("link", name=f"{action} batch one").press("Enter")
        page.wait_for_url(f"**/one/{action.lower()}")
        page.get_by_role("button", name=f"{action} batch").press("Enter")
        page.wait_for_url("**/rlm/batches/one")
        expect(page.locator("h1 .badge")).to_have_text(state)
        assert batches.get("one").state is state


def test_without_a_stream_a_page_is_read_every_few_seconds(
    browser: Browser, pages: Pages, cluster: Bench
) -> None:
    with tab(browser) as opened:  # its console tells of the streams that fail
        page = opened.page
        page.route("**/events", lambda route: route.fulfill(status=502))
        page.goto(f"{pages.url}/rlm/batches/one")
        remember(page)
        batch = cluster.client.batch("one")
        batch.pause()
        expect(page.locator("h1 .badge")).to_have_text("paused", timeout=PATIENCE_MS)
        batch.resume()
        expect(page.locator("h1 .badge")).to_have_text("running", timeout=PATIENCE_MS)
        not_reloaded(page)


def test_two_batches_are_compared(page: Page, pages: Pages) -> None:
    page.goto(f"{pages.url}/rlm/compare")
    page.get_by_label("A", exact=True).fill("one")
    page.get_by_label("B", exact=True).fill("two")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Paired differences")).to_be_visible()
    expect(page.locator(".pairs-table tbody tr")).not_to_have_count(0)
    expect(page.locator(".counts")).to_contain_text("only in A")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_are_accessible_and_fit_a_phone(browser: Browser, pages: Pages, path: str, dark: bool) -> None:
    for size in (NARROW, (1280, 900)):
        with tab(browser, size=size, dark=dark) as opened:
            opened.page.goto(f"{pages.url}/rlm/{path}")
            assert opened.findings() == []
            assert not opened.is_too_wide()
            assert opened.errors == []
            assert all(url.startswith(pages.url) for url in opened.requests if not url.startswith("data:"))
