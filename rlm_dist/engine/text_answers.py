"""Decides what becomes of an answer in the text of a reply: it is taken, evaluated in the REPL, or said back.

If in doubt it is said back: one more turn is better than a wrong answer.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from rlm_dist.engine import prompts
from rlm_dist.engine.observation import BlockResult
from rlm_dist.engine.parsing import ParsedReply, TextAnswer
from rlm_dist.engine.parsing.expressions import Expression, template_names, unmarked
from rlm_dist.engine.parsing.programs import assigned_names
from rlm_dist.schema import REPL_NAMES, FinalValue, Resolved

RunCell = Callable[[int, str], BlockResult]

_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*|\[[^\[\]\n]{1,200}\])*")
_NAME = re.compile(r"[^\W\d]\w*")
_WORDS = REPL_NAMES - {"answer"}  # never looked up for a text answer, in which they are plain words
_PLACEHOLDERS = frozenset(
    [
        "...",
        "…",
        "answer",
        "your answer",
        "the answer",
        "final answer",
        "your final answer",
        "result",
        "value",
    ]
)
_MAX_NAMES = 100  # of a text answer, looked up in the REPL


class AnswerDecision(NamedTuple):
    """What became of a text answer: the final value, or a note that says why it was not accepted.

    ``cell`` is what happened if it was evaluated in the REPL.
    """

    final: FinalValue | None = None
    note: str = ""
    cell: BlockResult | None = None


class TextAnswers:
    """The answers that a job's model hands in as text; ``look_up`` finds a variable of the REPL."""

    def __init__(self, look_up: Callable[[str], Resolved]) -> None:
        self._look_up = look_up
        self._names: set[str] = set()
        self._unread: list[str] = []  # code whose names are not in it yet: most jobs never need them

    def note_code(self, reply: ParsedReply) -> None:
        """Remember the names that the code of a reply assigns, whether or not it runs."""
        self._names.update(reply.assigned)
        self._unread += reply.blocks

    @property
    def _assigned(self) -> set[str]:
        """The names that the code of the replies so far assigns."""
        blocks, self._unread = self._unread, []
        self._names.update(*map(assigned_names, blocks))
        return self._names

    def accept(
        self, answer: TextAnswer, parsed: Expression | None, reply: ParsedReply, run_cell: RunCell
    ) -> AnswerDecision:
        """What becomes of the answer; ``parsed`` is its argument, if that is an expression.

        ``run_cell`` runs code in the REPL as the block with that index.
        """
        text = answer.argument
        literal = AnswerDecision(FinalValue(text, None, "FINAL"))
        bare = unmarked(text)
        if answer.kind == "FINAL_VAR":
            return self._accept_variable(bare, reply) or self._refuse_variable(text)
        if parsed is None and any(
            self._is_variable(name) for name in sorted(template_names(text))[:_MAX_NAMES]
        ):
            return AnswerDecision(note=prompts.FORMATTED)
        if answer.quoted:
            return literal
        if text in ("", "None"):
            return AnswerDecision(note=prompts.NO_ANSWER)
        if parsed is None and text.startswith(("f'", 'f"')):
            return AnswerDecision(note=prompts.FORMATTED)
        if _PATH.fullmatch(bare) and bare not in _WORDS:
            decision = self._accept_variable(bare, reply)
            if decision is not None:
                return decision
        if bare.lower().strip("<>") in _PLACEHOLDERS:
            return AnswerDecision(note=prompts.PLACEHOLDER)
        return literal if parsed is None else self._accept_expression(text, parsed, reply, run_cell)

    def _accept_variable(self, path: str, reply: ParsedReply) -> AnswerDecision | None:
        """Hand in the value of a variable; None if it does not exist."""
        resolved = self.resolve(path)
        if not resolved.found:
            return None
        if reply.unfenced or reply.reassigns(_NAME.findall(path)[:1]):
            return AnswerDecision(note=prompts.UNFENCED_CODE)
        return AnswerDecision(resolved.final, "" if resolved.final else prompts.NO_ANSWER)

    def _refuse_variable(self, path: str) -> AnswerDecision:
        return AnswerDecision(note=prompts.unknown_variable(path, self.resolve(path).names))

    def _accept_expression(
        self, text: str, parsed: Expression, reply: ParsedReply, run_cell: RunCell
    ) -> AnswerDecision:
        """Evaluate what is Python; words that only parse as Python are the answer as they stand."""
        if parsed.wordlike:
            names = [name for name in parsed.names[:_MAX_NAMES] if not self._is_variable(name)]
            live = self._look_up(names[0]).names if names else ()
            meant = {name.lower() for name in (*live, *self._assigned)}
            tried = any("_" in name or name.lower() in meant for name in parsed.names)
            if len(names) == len(parsed.names[:_MAX_NAMES]) and not tried:
                return AnswerDecision(FinalValue(text, None, "FINAL"))
            if names or parsed.words:
                return AnswerDecision(note=prompts.unknown_words(text, names, live))
        if reply.unfenced or reply.reassigns(parsed.names):
            return AnswerDecision(note=prompts.UNFENCED_CODE)
        cell = run_cell(len(reply.blocks), parsed.code)
        return AnswerDecision(cell.result.final, prompts.EVALUATED, cell)

    def _is_variable(self, name: str) -> bool:
        return name not in _WORDS and self._look_up(name).found

    def resolve(self, path: str) -> Resolved:
        """Look up a path; ``answer`` alone means its content, as it does for a model that rebinds it."""
        if path == "answer":
            content = self._look_up("answer['content']")
            if content.found and content.final is not None:
                return content
        return self._look_up(path)
