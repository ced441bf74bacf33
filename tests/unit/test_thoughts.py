"""What models think aloud in channels is dropped; ``<think>`` tags: ``engine/test_parsing.py``."""

import pytest

from rlm_dist.thoughts import without_thoughts

ANALYSIS = "<|channel|>analysis<|message|>We look.\nFINAL(no)"
FINAL = "<|channel|>final<|message|>Paris\n"


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        (f"{ANALYSIS}<|end|><|start|>assistant{FINAL}<|return|>", "Paris"),
        (f"<|start|>assistant{ANALYSIS}<|end|>\n<|start|>assistant{FINAL}", "Paris"),
        (f"\n{ANALYSIS}{FINAL}", "Paris"),
        (FINAL, "Paris"),
        (ANALYSIS, ""),
        ("<|channel|>analysis", ""),
        (f"{ANALYSIS}<|end|><|start|>assistant<|channel|>fin", ""),
        (
            f"{ANALYSIS}<|end|><|start|>assistant<|channel|>commentary to=functions.python <|constrain|>json"
            '<|message|>{"code": "x"}<|call|>',
            '{"code": "x"}',
        ),
        ("<|channel|>commentary<|message|>I plan.<|end|><|start|>assistant" + FINAL, "I plan.\nParis"),
    ],
)
def test_the_channel_of_thoughts_is_dropped(text: str, visible: str) -> None:
    assert without_thoughts(text).strip() == visible


@pytest.mark.parametrize(
    "text", [f"The format is:\n{ANALYSIS}", f"```repl\nprint('{FINAL.strip()}')\n```", "a <|channel|> b"]
)
def test_a_text_that_only_mentions_channels_stays(text: str) -> None:
    assert without_thoughts(text) == text
