"""Debian's Chromium, headless: what a page shows, what it asks the network for, and how accessible it is.

A page is opened in its own profile. For tests in ``tests/browser``, whose ``conftest`` has the fixtures.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium")
WHY_NOT = "chromium (a package of Debian) is not installed: no page is opened in a browser"
WIDE, NARROW = (1280, 900), (360, 740)
_ARGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
_BAD = ("serious", "critical")


@dataclass
class Tab:
    """An open page, the URLs that it requested, and what its console reported as an error."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def findings(self) -> list[str]:
        """The serious and critical findings of axe, each with the first element that it is about."""
        violations = Axe().run(self.page).response["violations"]
        return [
            f"{found['id']}: {found['help']}: {found['nodes'][0]['html'][:200]}"
            for found in violations
            if found["impact"] in _BAD
        ]

    def is_too_wide(self) -> bool:
        """Whether the page as a whole scrolls sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without network services of its own.

    Playwright's event loop stays in this thread until the end, so no test beside it may start another one.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Browser, *, size: tuple[int, int] = WIDE, dark: bool = False) -> Iterator[Tab]:
    """An empty page of this size in pixels that prefers light or dark."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    opened = Tab(context.new_page())

    def note_request(request: Request) -> None:
        opened.requests.append(request.url)

    def note_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            opened.errors.append(message.text)

    def note_error(error: Error) -> None:
        opened.errors.append(str(error))

    opened.page.on("request", note_request)
    opened.page.on("console", note_message)
    opened.page.on("pageerror", note_error)
    try:
        yield opened
    finally:
        context.close()
