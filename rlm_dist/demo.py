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

_LEFT_OUT = {"test", "tests", "idle_test", "idlelib", "lib2to3", "site-packages", "dist-packages"}
_COUNTED = "ValueError"
_PLANTED = (("amber-harbour", 7_421_935, 0.37), ("quiet-lantern", 2_860_417, 0.81))


@dataclass(frozen=True)
class Question:
    """A question, and the number that answers it."""

    text: str
    truth: int

    def is_right(self, answer: str | None) -> bool:
        """Whether the answer names the right number, and no other."""
        numbers = {int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", answer or "")}
        return numbers == {self.truth}


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
    for key, number, depth in _PLANTED:
        lines.insert(int(len(lines) * depth), f"# The magic number for {key} is {number}.")
    counted = sum(_COUNTED in line for line in lines)
    (first, first_number, _), (second, second_number, _) = _PLANTED
    return Demo(
        text="\n".join(lines),
        files=len(files),
        questions=(
            Question(f"How many lines contain '{_COUNTED}'?", counted),
            Question(f"What is the magic number for {first}?", first_number),
            Question(
                "Find the lines that mention it and have llm_query read the number out of them: "
                f"what is the magic number for {second}?",
                second_number,
            ),
        ),
    )


def _sources(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each Python file under a folder, in order, but for tests and installed packages."""
    for path in sorted(folder.rglob("*.py")):
        parts: Sequence[str] = path.relative_to(folder).parts
        if _LEFT_OUT.isdisjoint(parts):
            yield "/".join(parts), path.read_text("utf-8", errors="replace")
