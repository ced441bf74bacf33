"""A browser for each file of tests in this folder; without one they are skipped, with the reason."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.browser import CHROMIUM, WHY_NOT, chromium

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, so that ``-m browser`` selects them."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser, which ends with the file: no other test may run beside its event loop."""
    if CHROMIUM is None:
        pytest.skip(WHY_NOT)
    with chromium() as started:
        yield started
