"""promtool, from Debian's package prometheus: rules and scrape config are valid, and alerts fire in time."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.scrapes import RULES, SCRAPE_CONFIG

pytestmark = pytest.mark.debian

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"
)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_rules_and_the_scrape_config_are_valid() -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", SCRAPE_CONFIG)


@needs_promtool
def test_each_alert_fires_when_it_must_and_not_when_all_is_well() -> None:
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))
