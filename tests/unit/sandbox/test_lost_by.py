"""What ended a REPL, in the few words that metrics count by."""

import pytest

from rlm_dist.sandbox.host import _lost_by
from rlm_dist.sandbox.inside.exits import EXIT_BROKEN, EXIT_MEMORY, SERVER_DIED
from rlm_dist.sandbox.process import ending


@pytest.mark.parametrize(
    ("text", "lost_by"),
    [
        (ending(EXIT_MEMORY), "memory"),
        (ending(-9), "memory"),
        (ending(EXIT_BROKEN), "ended"),
        (ending(0), "ended"),
        (ending(-24), "ended"),
        (SERVER_DIED, "ended"),
    ],
)
def test_an_end_has_its_reason(text: str, lost_by: str) -> None:
    assert _lost_by(text) == lost_by
