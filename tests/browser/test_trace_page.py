"""The page of a trajectory in a real browser: bounded, without network, harmless, by keyboard, accessible."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import NARROW, WIDE, Tab, tab
from tests.support.trajectories import HOSTILE, write_page

COUNT = 10_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a job with 10,000 sub-calls, all texts of which are hostile."""
    return write_page(tmp_path_factory.mktemp("large") / "large.html", COUNT, HOSTILE)


@pytest.fixture
def opened(browser: Browser, large: Path) -> Iterator[Tab]:
    """That page, open."""
    with tab(browser) as made:
        made.page.goto(large.as_uri())
        yield made


def rows(page: Page, host: str = "#rlm-calls") -> int:
    return page.locator(f"{host} tbody tr[data-at]").count()


def test_few_of_10000_rows_are_in_the_document_and_the_last_one_can_be_reached(opened: Tab) -> None:
    page = opened.page
    assert 10 < rows(page) < 100
    assert page.locator("#rlm-calls table").get_attribute("aria-rowcount") == str(COUNT + 1)
    assert page.evaluate("document.querySelectorAll('*').length") < 6000
    page.evaluate(
        "(() => { const view = document.querySelector('#rlm-calls .rows-scroll'); view.scrollTop = 1e9 })()"
    )
    last = page.locator(f"#rlm-calls tr[aria-rowindex='{COUNT + 1}']")
    last.wait_for()
    assert last.locator(".col-n").inner_text() == str(COUNT)
    assert rows(page) < 100


def test_a_block_shows_its_own_calls_once_it_is_unfolded(opened: Tab) -> None:
    block = opened.page.locator("#block-1")
    assert block.locator("table.rows").count() == 0
    block.locator("details.calls > summary").click()
    table = block.locator("table.rows")
    assert table.get_attribute("aria-rowcount") == str(COUNT + 1)
    assert opened.page.locator("#block-0 details.calls").count() == 0


def test_it_asks_the_network_for_nothing_and_breaks_no_rule_of_its_own(opened: Tab, large: Path) -> None:
    opened.page.locator("#block-1 details.calls > summary").click()
    assert opened.requests == [large.as_uri()] or set(opened.requests) == {large.as_uri(), "data:,"}
    assert opened.errors == []


def test_its_policy_stops_what_would_reach_the_network_or_run(opened: Tab) -> None:
    """The policy itself is at work, not only the escaping."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        opened.page.evaluate(
            """(url) => new Promise((done) => {
              const script = document.createElement("script");
              script.textContent = "window.ran = 2";
              document.body.append(script);
              const image = new Image();
              image.onerror = done;
              image.src = url;
              document.body.append(image);
            })""",
            f"http://127.0.0.1:{server.getsockname()[1]}/x.png",
        )
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()
    assert opened.page.evaluate("window.ran") is None
    assert sum("Content Security Policy" in error for error in opened.errors) == 2


def test_nothing_in_a_text_runs_or_hides(opened: Tab) -> None:
    page = opened.page
    page.locator("#rlm-calls tr[data-at='0']").click()
    assert page.evaluate("window.ran") is None
    assert page.locator("img").count() == 0
    detail = page.locator("#rlm-calls .detail")
    answer = detail.locator("pre").nth(1)
    for shown in (answer, page.locator("#turn-1 pre.reply"), page.locator("#block-1 pre.code")):
        text = shown.inner_text()
        assert "</script><script>window.ran = 1</script>" in text
        for name in ("ESC", "RLO", "PDF", "NUL"):
            assert shown.locator(".hidden-char", has_text=name).count() > 0
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_call_is_chosen_and_left_by_keyboard(opened: Tab) -> None:
    page = opened.page
    page.locator("#rlm-calls table").focus()
    for key in ("ArrowDown", "ArrowDown", "End", "Home", "PageDown", "ArrowUp"):
        page.keyboard.press(key)
        active = page.locator("#rlm-calls table").get_attribute("aria-activedescendant")
        assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    detail = page.locator("#rlm-calls .detail")
    assert "Which people are named in part 0?" in detail.inner_text()
    assert page.evaluate("document.activeElement.className") == "detail"
    page.keyboard.press("Escape")
    assert detail.is_hidden()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "grid"


def test_the_skip_link_is_first_and_leads_to_the_turns(opened: Tab) -> None:
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.className") == "skip"
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "turns-title"


def test_rows_are_sorted_and_filtered(opened: Tab) -> None:
    page = opened.page
    page.get_by_label("State", exact=True).select_option("failed")
    assert page.locator("#rlm-calls output").inner_text() == "10 of 10,000"
    assert page.locator("#rlm-calls table").get_attribute("aria-rowcount") == "11"
    page.locator("#rlm-calls th.col-n button").click()
    assert page.locator("#rlm-calls th.col-n").get_attribute("aria-sort") == "descending"
    assert page.locator("#rlm-calls tr[data-at='0'] .col-n").inner_text() == str(COUNT)
    page.get_by_label("Search", exact=True).fill("host-3")
    assert page.locator("#rlm-calls output").inner_text() == "10 of 10,000"
    page.get_by_label("Search", exact=True).fill("no such worker")
    assert page.locator("#rlm-calls output").inner_text() == "0 of 10,000"


def test_the_search_shows_the_turns_with_these_words(opened: Tab) -> None:
    opened.page.get_by_label("Search the turns").fill("occurs TWICE")
    assert opened.page.locator("article.turn:visible").count() == 1
    assert opened.page.locator("#turn-found").inner_text() == "1 of 3 turns"
    opened.page.get_by_label("Search the turns").fill("")
    assert opened.page.locator("article.turn:visible").count() == 3


def test_the_timeline_stays_small_and_shows_single_calls_when_looked_at_closely(opened: Tab) -> None:
    page = opened.page
    shapes = page.locator("#rlm-timeline rect")
    assert page.locator("#rlm-timeline .bar-root").count() == 3
    assert page.locator("#rlm-timeline .bar-area").count() > 0
    assert shapes.count() < 4000
    for _ in range(7):
        page.get_by_role("button", name="Closer").click()
    assert page.locator("#rlm-timeline .bar-call").count() > 0
    assert shapes.count() < 4000
    page.get_by_role("button", name="Whole job").click()
    page.locator("#rlm-timeline a").first.focus()
    assert "reply of big-model" in page.locator("#rlm-timeline .readout").inner_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing_serious_and_the_page_is_not_too_wide(
    browser: Browser, tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    page = write_page(tmp_path / "page.html", 60, HOSTILE + "wide" * 200)
    with tab(browser, size=size, dark=dark) as opened:
        opened.page.goto(page.as_uri())
        for fold in opened.page.locator("details > summary").all():
            fold.click()
        opened.page.locator("#rlm-calls tr[data-at='0']").click()
        assert opened.findings() == []
        assert not opened.is_too_wide()


def test_a_page_without_content_has_no_text_of_the_job(browser: Browser, tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.html", 60, " SECRET", content=False)
    assert "SECRET" not in page.read_text()
    with tab(browser) as opened:
        opened.page.goto(page.as_uri())
        assert "Content is not shown" in opened.page.inner_text("main")
        opened.page.locator("#rlm-calls tr[data-at='0']").click()
        assert opened.page.locator("#rlm-calls .detail dt").count() > 5
        assert opened.errors == []
