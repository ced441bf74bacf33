"""The sub model of the oracle: it knows the truth, and errs at a set rate.

It misreads a part of what it reads, the same part each time: whether it does is drawn from the seed and the
text of the line, the sentence or the file. Up to ``READS_TOKENS`` of a prompt the part is ``error_rate``.
In a prompt of n tokens it reads ``sqrt(READS_TOKENS / n)`` as well as that, and misreads the rest. This is
a rule to have something that falls with length; it was fitted to no model.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rlm_dist.bench.quality.code_facts import parsed_file
from rlm_dist.bench.quality.items import tokens_of
from rlm_dist.bench.quality.labelled import LabelledSet
from rlm_dist.bench.quality_oracle.fact_code import files_of
from rlm_dist.bench.quality_oracle.line_code import DatedLine, read_lines
from rlm_dist.bench.quality_oracle.plans import FACTS, ChoicesPlan, FactsPlan, LinesPlan, plan_of
from rlm_dist.schema import Message
from rlm_dist.simulated import rules

READS_TOKENS = 8_192
UNKNOWN = "unknown"
_LABELLING = re.compile(r"Give each numbered text one of these labels: (.+)\.\n")
_FACT = re.compile(r"What is (.+)\? Reply with the name or the number alone, or NONE")
_CHOICE = re.compile(r"(Which of these .*\?)\nIs it (.+)\? Reply yes or no\.\Z")
# The prompts of the method ``summary``.
_NOTES = re.compile(
    r"This will be asked about the whole of it:\n(?P<query>.+?)\n\nNotes on the parts before:\n"
    r"(?P<notes>.*?)\n\nPart \d+ of \d+:\n(?P<part>.*)\n\nRewrite the notes.* at most (?P<room>\d+) char",
    re.S,
)
_OFFERED = re.compile(r"one of these \d+ labels: (.*)\.$", re.M)


def known_labels(sets: Iterable[LabelledSet]) -> dict[str, str]:
    """The label of each text of the sets; the first one of a text that has several."""
    labels: dict[str, str] = {}
    for each in sets:
        for row in each.rows:
            labels.setdefault(row.text, row.label)
    return labels


@dataclass(frozen=True, kw_only=True)
class OracleSub:
    """Answers prompts; ``labels`` has the label of each text that it knows."""

    labels: Mapping[str, str] = field(default_factory=dict)
    error_rate: float = 0.0
    seed: int = 0

    def answer(self, messages: Sequence[Message]) -> str:
        """The answer to the last message; to a prompt of no known kind, that of the usual rules."""
        prompt = messages[-1].content if messages else ""
        error = self.error(tokens_of(prompt))
        if notes := _NOTES.search(prompt):
            return self._noted(notes["query"], notes["notes"], notes["part"], error)[: int(notes["room"])]
        if labelling := _LABELLING.search(prompt):
            return self._labelled(prompt[labelling.end() :], labelling[1].split(", "), error)
        head, _, last = prompt.rpartition("\n\n")
        if fact := _FACT.match(last):
            return self._asked(head, fact[1], error) or rules.NOTHING
        if choice := _CHOICE.match(last):
            return "yes" if self._holds(files_of(head), plan_of(choice[1]), choice[2], error) else "no"
        return self._whole(head, last, error) or rules.answer(messages)

    def error(self, tokens: int) -> float:
        """The share that is misread of a prompt of this number of tokens."""
        return 1 - (1 - self.error_rate) * min(1.0, math.sqrt(READS_TOKENS / max(1, tokens)))

    def label(self, text: str, offered: Sequence[str], error: float) -> str:
        """The label of a text, or a wrong one of those offered."""
        right = self.labels.get(text, "")
        others = [label for label in offered if label != right]
        if right and not (others and self._misread(text, error)):
            return right
        return others[self._hash("label", text) % len(others)] if others else right

    def _misread(self, text: str, error: float) -> bool:
        return self._hash("read", text) < error * 2**64

    def _hash(self, what: str, text: str) -> int:
        hashed = hashlib.blake2b(f"{self.seed}/{what}/{text}".encode(errors="replace"), digest_size=8)
        return int.from_bytes(hashed.digest(), "big")

    def _labelled(self, numbered: str, offered: Sequence[str], error: float) -> str:
        texts = re.findall(r"^(\d+): (.*)$", numbered, re.M)
        return "\n".join(f"{number}: {self.label(text, offered, error)}" for number, text in texts)

    def _asked(self, text: str, asked: str, error: float) -> str:
        """The fact that is asked for, in the form of a key of ``FACTS``; empty if it is not found."""
        for words, fact in FACTS.items():
            before, after = words.split("{}")
            if asked.startswith(before) and asked.endswith(after):
                name = asked.removeprefix(before).removesuffix(after)
                return self._fact(text, fact, name, error)
        return ""

    def _fact(self, text: str, fact: str, name: str, error: float) -> str:
        head, middle, end = map(re.escape, fact.split("{}"))
        found = re.search(f"{head}{re.escape(name)}{middle}(.+?){end}", text)
        return found[1] if found and not self._misread(found[0], error) else ""

    def _holds(self, files: Mapping[str, str], plan: object, choice: str, error: float) -> bool:
        """Whether a choice on code is right, by the file that it names."""
        name, _, path = choice.rpartition(" in ")
        assert isinstance(plan, ChoicesPlan)
        file = parsed_file(files.get(path, ""), path)
        if file is None or path not in files:
            return False
        match plan.kind:
            case "defines":
                right = plan.about in file.defines
            case "imports":
                right = plan.about in file.imports
            case "calls":
                right = any(plan.about in each.calls for each in file.functions if each.name == name)
            case _:
                right = any(plan.about in each.bases for each in file.classes if each.name == name)
        return right != self._misread(f"{plan.about}/{choice}", error)

    def _whole(self, text: str, query: str, error: float) -> str:
        """The answer to a task's question over the text before it; empty if it is none."""
        match plan := plan_of(query):
            case FactsPlan(name, steps):
                for step in steps:
                    name = self._fact(text, FACTS[step], name, error)
                return name or UNKNOWN
            case ChoicesPlan(_, _, _, choices):
                files = files_of(text)
                right = (letter for letter in choices if self._holds(files, plan, choices[letter], error))
                return next(right, "A")
            case LinesPlan(scope, answer, labels):
                lines = self._read(text, error, labels=labels)
                if scope is not None:
                    lines = scope.function(lines, *scope.arguments)
                return str(answer.function(lines, *answer.arguments))
            case _:
                return ""

    def _noted(self, query: str, notes: str, part: str, error: float) -> str:
        """The notes with what a part adds: its lines with their labels, or the sentences that state facts."""
        if isinstance(plan_of(query), LinesPlan):
            kept = [
                f"{line} || Label: {self.label(read[0].text, sorted(set(self.labels.values())), error)}"
                for line in part.split("\n")
                if (read := read_lines(line))
            ]
        else:
            forms = (".+?".join(map(re.escape, fact.split("{}"))) for fact in FACTS.values())
            found = (sentence for form in forms for sentence in re.findall(form, part))
            kept = [sentence for sentence in found if not self._misread(sentence, error)]
        return "\n".join([*([] if notes == "(none)" else [notes]), *kept])

    def _read(self, text: str, error: float, *, labels: bool) -> list[DatedLine]:
        """The lines with labels, some of them wrong; without labels, what is misread is left out."""
        lines = read_lines(text)
        if not labels:
            return [line for line in lines if not self._misread(f"{line}", error)]
        found = _OFFERED.search(text)
        offered = found[1].split(", ") if found else sorted(set(self.labels.values()))
        return [line._replace(label=line.label or self.label(line.text, offered, error)) for line in lines]
