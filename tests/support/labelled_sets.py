"""Labelled sets for tests: small ones made here, with TREC's labels or with others."""

import random

from rlm_dist.bench.quality.labelled import TREC_LABELS, LabelledRow, LabelledSet

_WORDS = (
    "Who",
    "What",
    "How many",
    "river",
    "||",
    "Label:",
    "User:",
    "Date",
    "city,",
    "is",
    "U.S.",
    "1963",
    "?",
)


def trec_like(rows: int = 600) -> LabelledSet:
    """Rows with TREC's labels, tokens a line and odd texts; separators of fields as a reader leaves them."""
    rng = random.Random(5)
    labels = sorted(TREC_LABELS.values())
    made = tuple(
        LabelledRow(f"{' '.join(rng.choices(_WORDS, k=8)).replace('||', '|')} {number}", rng.choice(labels))
        for number in range(rows)
    )
    return LabelledSet(
        name="trec_coarse",
        noun="questions",
        described="The answer to each",
        rows=made,
        prompt_tokens=168,
        line_tokens=39,
    )


def two_labels() -> LabelledSet:
    """A measured set with two labels."""
    made = tuple(LabelledRow(f"text {n} " + "x" * (n % 90), ("ham", "spam")[n % 3 == 0]) for n in range(90))
    return LabelledSet(name="mails", rows=made)
