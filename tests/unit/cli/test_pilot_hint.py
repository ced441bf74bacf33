"""The command that goes on after a pilot has all options of the one before but the pilot."""

import pytest

from rlm_dist.cli.batches import _without_pilot


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (
            ["submit", "my file.jsonl", "--pilot", "20", "--batch-max-usd", "5", "--tag", "a=b c"],
            "rlm-dist submit 'my file.jsonl' --batch-max-usd 5 --tag 'a=b c' --batch-id b1",
        ),
        (["submit", "--pilot=20", "--batch-id", "b1", "f"], "rlm-dist submit f --batch-id b1"),
        (["submit", "f", "--batch-id=b1", "--cap", "--pilot", "2"], "rlm-dist submit f --cap --batch-id b1"),
    ],
)
def test_every_option_that_was_given_is_repeated(given: list[str], hint: str) -> None:
    assert _without_pilot(given, "b1") == hint
