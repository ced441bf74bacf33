"""The demonstration: questions over real text, with answers that plain Python can compute.

The text is the source of the standard library on this machine (some megabytes), with two facts planted in it.
Each question is of a kind that the small local model can answer: counting lines, finding a fact, and finding
lines and asking a sub-model what they say.
"""

import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm_dist.operations.trace_text import event_lines
from rlm_dist.schema.events import CellRan, Event, Marked, RootReplied, SubCallsAnswered

_SHOWN_CHARS = 500  # of the output of a block
_EXCLUDED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
_COUNTED_WORD = "memoryview"  # it has one spelling only: small models tend to compare in lower case
# The second fact spells out its number and no digits follow: code finds the line, but a model must read it.
_FACTS = (
    ("amber-harbour", "7421935", (), "", 0.37, ""),
    (
        "quiet-lantern",
        "seventy-four",
        ("74", "seventy four"),
        " as every keeper of the harbour had it from the one before, until the books were bound and put away",
        0.81,
        " Find the lines about it, and ask llm_query with these lines in the prompt.",
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
    for key, number, forms, suffix, depth, hint in _FACTS:
        lines.insert(int(len(lines) * depth), f"# The magic number for {key} is {number}{suffix}.")
        questions.append(
            Question(f"What is the magic number for {key} mentioned in the text?{hint}", number, forms)
        )
    count = sum(_COUNTED_WORD in line for line in lines)
    questions.insert(0, Question(f"How many lines have the word '{_COUNTED_WORD}'?", str(count)))
    return Demo(text="\n".join(lines), files=len(files), questions=tuple(questions))


class DemoTurns:
    """Makes the lines of a job's trajectory that stay on the screen: turns, code, outputs and sub-calls."""

    def __init__(self) -> None:
        self._turn: int | None = None

    def lines(self, event: Event) -> Iterator[str]:
        """The lines of one event; none for the prompts and the end, which are shown elsewhere."""
        if not isinstance(event, RootReplied | CellRan | SubCallsAnswered | Marked):
            return
        turn = getattr(event, "turn", self._turn)
        if turn != self._turn and turn is not None:
            self._turn = turn
            yield f"── turn {turn}"
        if isinstance(event, CellRan):
            event = event.model_copy(update={"output": _cut(event.output)})
        yield from event_lines(event)


def _cut(text: str) -> str:
    more = len(text) - _SHOWN_CHARS
    return text if more <= 0 else f"{text[:_SHOWN_CHARS]} [… {more:,} more characters]"


def _sources(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each Python file under a folder, in order, except tests and installed packages."""
    for path in sorted(folder.rglob("*.py")):
        parts: Sequence[str] = path.relative_to(folder).parts
        if _EXCLUDED_FOLDERS.isdisjoint(parts):
            yield "/".join(parts), path.read_text("utf-8", errors="replace")
