"""The index of a batch's pages in a real browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from rlm_dist.operations.viewer.trace_page import index_html, job_row
from rlm_dist.schema import BatchRecord, BatchState, JobState
from tests.support.browser import NARROW, WIDE, tab
from tests.support.trajectories import HOSTILE, START_MS, record, spec

COUNT = 2500


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    batch = BatchRecord(
        id="night-3", state=BatchState.COMPLETED, counts={JobState.SUCCEEDED: COUNT}, total=COUNT,
        sealed=True, created_ms=START_MS,
    )  # fmt: skip
    rows = []
    for number in range(COUNT):
        one = spec().model_copy(update={"id": f"j{number}", "index": number, "custom_id": f"letter-{number}"})
        job = record(answer=f"{number} {HOSTILE}", spec=one)
        rows.append(job_row(job, f"j{number}.html", content=True, now_ms=START_MS))
    path = tmp_path_factory.mktemp("pages") / "index.html"
    path.write_text("".join(index_html(batch, rows, content=True)))
    (path.parent / "j7.html").write_text("<title>the page of j7</title>")
    return path


def test_jobs_are_found_and_opened_by_keyboard(browser: Browser, index: Path) -> None:
    with tab(browser) as opened:
        page = opened.page
        page.goto(index.as_uri())
        assert page.locator("#rlm-jobs tr[data-at]").count() < 100
        assert page.locator("#rlm-jobs table").get_attribute("aria-rowcount") == str(COUNT + 1)
        page.get_by_label("Search", exact=True).fill("letter-7")
        assert page.locator("#rlm-jobs output").inner_text() == "111 of 2,500"
        page.locator("#rlm-jobs table").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/j7.html")
        assert opened.errors == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing_serious_in_the_index(
    browser: Browser, index: Path, size: tuple[int, int], dark: bool
) -> None:
    with tab(browser, size=size, dark=dark) as opened:
        opened.page.goto(index.as_uri())
        assert opened.findings() == []
        assert not opened.is_too_wide()
        assert opened.page.evaluate("window.ran") is None
