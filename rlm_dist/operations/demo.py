"""The demonstration: questions over real text whose answers plain Python knows.

The text is the standard library's own source, as it lies on this machine (some megabytes), with two facts
planted in it. Each question is of a kind that the small local model can answer: counting lines, and finding a
fact and asking a sub-model about the lines around it.
"""

import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
_COUNTED = "memoryview"  # spelled in one way only: small models tend to compare in lower case
# The second fact spells its number out, with no digits behind it: code finds the line, a model must read it.
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
        """Whether the answer names the right number, and no other in digits."""
        said = (answer or "").lower().replace(",", "")
        accepted = {self.truth, *self.forms}
        if any(number not in accepted for number in re.findall(r"\d+", said)):
            return False
        return any(re.search(rf"\b{form}\b", said) for form in accepted)


@dataclass(frozen=True)
class Demo:
    """One text and the questions about it; ``files`` is the number of files that it came from."""

    text: str
    files: int
    questions: tuple[Question, ...]


def make_demo(folder: Path | None = None) -> Demo:
    """Make the demonstration from the Python sources under ``folder`` (None: the standard library's)."""
    files = list(_sources(folder or Path(sysconfig.get_paths()["stdlib"])))
    lines = [line for name, source in files for line in (f"=== {name} ===", *source.splitlines())]
    questions = []
    for key, number, forms, more, depth in _FACTS:
        lines.insert(int(len(lines) * depth), f"# The magic number for {key} is {number}{more}.")
        questions.append(
            Question(f"What is the magic number for {key} mentioned in the text?", number, forms)
        )
    counted = sum(_COUNTED in line for line in lines)
    questions.insert(0, Question(f"How many lines have the word '{_COUNTED}'?", str(counted)))
    return Demo(text="\n".join(lines), files=len(files), questions=tuple(questions))


def _sources(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each Python file under a folder, in order, but for tests and installed packages."""
    for path in sorted(folder.rglob("*.py")):
        parts: Sequence[str] = path.relative_to(folder).parts
        if _LEFT_OUT.isdisjoint(parts):
            yield "/".join(parts), path.read_text("utf-8", errors="replace")
