"""A name that somebody else chose stays on one line and controls no terminal."""

import pytest

from rlm_dist.one_line import one_line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Grüße 7/ü.txt", "Grüße 7/ü.txt"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x9b", "\\x1b[31mred\\x9b"),
        ("a\x00\x7f", "a\\x00\\x7f"),
        ("a\u2028b\u202ec\u2066", "a\\u2028b\\u202ec\\u2066"),
        ("\ud800", "\\ud800"),
    ],
)
def test_it_is_escaped(name: str, shown: str) -> None:
    assert one_line(name) == shown
