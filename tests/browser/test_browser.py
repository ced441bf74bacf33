"""The browser that tests use reports what a page does."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.support.browser import NARROW, tab

_PAGE = """<!doctype html><html lang="en"><title>A page</title><main><h1>A page</h1>{}</main></html>"""


def test_requests_and_errors_of_a_page_are_noted(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(_PAGE.format("<script src='missing.js'></script><script>lacks.it</script>"))
    with tab(browser) as opened:
        opened.page.goto(file.as_uri())
        assert opened.requests == [file.as_uri(), (tmp_path / "missing.js").as_uri()]
        assert any("lacks" in error for error in opened.errors)


def test_what_cannot_be_read_aloud_or_is_too_wide_is_found(browser: Browser) -> None:
    with tab(browser, size=NARROW, dark=True) as opened:
        opened.page.set_content(_PAGE.format("<p>Plain text.</p>"))
        assert opened.findings() == []
        assert not opened.is_too_wide()
        assert opened.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        opened.page.set_content(_PAGE.format("<button></button><p style='width:900px'>Wide.</p>"))
        assert [found.split(":")[0] for found in opened.findings()] == ["button-name"]
        assert opened.is_too_wide()
