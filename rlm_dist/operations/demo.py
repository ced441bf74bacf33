"""The demonstration: questions over real text, with answers that plain Python can compute.

The text is the source of the standard library on this machine (some megabytes), with two facts planted in it.
Each question is of a kind that the small local model can answer: counting lines, and finding a fact and
asking a sub-model about the lines around it.
"""

import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_EXCLUDED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
_COUNTED_WORD = "memoryview"  # it has one spelling only: small models tend to compare in lower case
# The second fact spells out its number and no digits follow: code finds the line, but a model must read it.
_FACTS = (
    ("amber-harbour", "7421935", (), "", 0.37),
    (
        "quiet-lantern",
        "seventy-four",
        ("74", "seventy four"),
        " as every keeper of the harbour had it from the one before, until the books were bound and put away",
        0.81,
    ),
)


@dataclass(frozen=True)
class Question:
    """A question, the number that answers it, and other forms of that number."""

    text: str
    truth: str
    forms: tuple[str, ...] = ()

    def is_right(self, answer: str | None) -> bool:
        """Whether the answer names the right number, and no other number in digits."""
        words = (answer or "").lower().replace(",", "")
        accepted = {self.truth, *self.forms}
        if any(number not in accepted for number in re.findall(r"\d+", words)):
            return False
        return any(re.search(rf"\b{form}\b", words) for form in accepted)


@dataclass(frozen=True)
class Demo:
    """A text and the questions about it; ``files`` is the number of files that the text comes from."""

    text: str
    files: int
    questions: tuple[Question, ...]


def make_demo(folder: Path | None = None) -> Demo:
    """Make the demonstration from the Python sources under ``folder`` (None: the standard library's)."""
    files = list(_sources(folder or Path(sysconfig.get_paths()["stdlib"])))
    lines = [line for name, source in files for line in (f"=== {name} ===", *source.splitlines())]
    questions = []
    for key, number, forms, suffix, depth in _FACTS:
        lines.insert(int(len(lines) * depth), f"# The magic number for {key} is {number}{suffix}.")
        questions.append(
            Question(f"What is the magic number for {key} mentioned in the text?", number, forms)
        )
    count = sum(_COUNTED_WORD in line for line in lines)
    questions.insert(0, Question(f"How many lines have the word '{_COUNTED_WORD}'?", str(count)))
    return Demo(text="\n".join(lines), files=len(files), questions=tuple(questions))


def _sources(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each Python file under a folder, in order, except tests and installed packages."""
    for path in sorted(folder.rglob("*.py")):
        parts: Sequence[str] = path.relative_to(folder).parts
        if _EXCLUDED_FOLDERS.isdisjoint(parts):
            yield "/".join(parts), path.read_text("utf-8", errors="replace")
