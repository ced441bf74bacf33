"""Parses a root model's reply: its code blocks in order and, outside them, an answer handed in as text.

Pure and total: every text parses, none raises, and the time grows about linearly with the length. Text inside
``<think>`` tags is dropped first, then fenced blocks are cut out. Only the rest is searched for
``FINAL(...)``, so neither code nor thoughts can end a run.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rlm_dist.engine.parsing.answers import TextAnswer, find_answer
from rlm_dist.engine.parsing.fences import Fence, Kind, split
from rlm_dist.engine.parsing.programs import assigned_names, compiles, unfenced_code, unfenced_program
from rlm_dist.engine.parsing.tools import ToolCalls, take_tool_calls
from rlm_dist.thoughts import without_thoughts

__all__ = ["ParsedReply", "TextAnswer", "parse"]


@dataclass(frozen=True)
class ParsedReply:
    """The parts of a reply.

    ``visible`` is the reply without thoughts. ``cut`` says that its last code block has no closing fence and
    does not compile, so it is not among ``blocks``. ``skipped`` has the tags of fenced blocks that are not
    run, ``unknown_tools`` the names in tool calls whose shape is not understood. ``names_final`` says that
    the prose contains the word ``FINAL``, whether or not that is an answer.

    ``repl`` says of each block whether it is tagged as one for the REPL. ``loose`` says that the prose has
    lines of code, ``assigned`` has the names that code of the reply assigns which is not in ``blocks``.
    """

    visible: str
    blocks: tuple[str, ...] = ()
    repl: tuple[bool, ...] = ()
    answer: TextAnswer | None = None
    skipped: tuple[str, ...] = ()
    unknown_tools: tuple[str, ...] = ()
    cut: bool = False
    names_final: bool = False
    loose: bool = False
    assigned: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether the reply has nothing but white space and thoughts."""
        return not (self.blocks or self.visible.strip())

    @property
    def plain(self) -> bool:
        """Whether the reply is text alone: no code, no tool call, and not empty."""
        return not (self.blocks or self.cut or self.loose or self.unknown_tools or self.empty)

    @property
    def unfenced(self) -> bool:
        """Whether code stands in the prose, and none in a block."""
        return self.loose and not self.blocks

    def reassigns(self, names: Iterable[str]) -> bool:
        """Whether a line of the prose assigns one of the names, and no block runs."""
        return not self.blocks and not self.assigned.isdisjoint(names)


def parse(text: str) -> ParsedReply:
    """Parse a reply; an empty text is an empty reply."""
    visible = without_thoughts(text.replace("\r\n", "\n"))
    tools = take_tool_calls(visible)
    if tools.found:
        return _from_tools(visible, tools)
    program = unfenced_program(visible)
    if program is not None:
        return ParsedReply(visible=visible, blocks=(program,), repl=(True,))
    return _from_text(visible)


def _from_text(visible: str) -> ParsedReply:
    fences, prose = split(visible)
    code = [fence for fence in fences if fence.kind is Kind.CODE]
    if not code:
        code = [fence for fence in fences if fence.kind is Kind.UNTAGGED and fence.runnable]
    cut = bool(code) and not code[-1].closed and not compiles(code[-1].code)
    unrun = code[-1].code if cut else ""
    code = [fence for fence in (code[:-1] if cut else code) if fence.code.strip()]
    answer = find_answer(prose)
    start, end = answer.span if answer else (0, 0)
    around = prose[:start] + prose[end:]
    return ParsedReply(
        visible=visible,
        blocks=tuple(fence.code for fence in code),
        repl=tuple(fence.tag.strip("{}.,:").lower() == "repl" for fence in code),
        answer=answer,
        skipped=tuple(_tag(fence) for fence in fences if fence not in code),
        cut=cut,
        names_final="FINAL" in prose,
        loose=unfenced_code(around),
        assigned=assigned_names(around) | assigned_names(unrun),
    )


def _from_tools(visible: str, tools: ToolCalls) -> ParsedReply:
    """A reply with tool calls: fenced blocks before the first call run too, unless a call repeats them."""
    before = _from_text(tools.rest)
    repeated = {code.strip() for code in tools.codes}
    blocks = [
        (code, repl)
        for code, repl in zip(before.blocks, before.repl, strict=True)
        if code.strip() not in repeated
    ]
    blocks += [(code, True) for code in tools.codes]
    return ParsedReply(
        visible=visible,
        blocks=tuple(code for code, _ in blocks),
        repl=tuple(repl for _, repl in blocks),
        answer=before.answer if not tools.unknown else None,
        unknown_tools=tools.unknown,
        cut=before.cut,
        loose=before.loose,
        assigned=before.assigned,
    )


def _tag(fence: Fence) -> str:
    return fence.tag or "no tag"
