"""Parses a root model's reply: its code blocks in order and, outside them, an answer handed in as text.

Pure and total: every text parses, none raises, and the time grows about linearly with the length. Text inside
``<think>`` tags is dropped first, then fenced blocks are cut out. Only the rest is searched for
``FINAL(...)``, so neither code nor thoughts can end a run.
"""

from dataclasses import dataclass

from rlm_dist.engine.parsing.answers import TextAnswer, find_answer
from rlm_dist.engine.parsing.fences import Fence, Kind, compiles, split
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
    """

    visible: str
    blocks: tuple[str, ...] = ()
    answer: TextAnswer | None = None
    skipped: tuple[str, ...] = ()
    unknown_tools: tuple[str, ...] = ()
    cut: bool = False
    names_final: bool = False

    @property
    def empty(self) -> bool:
        """Whether the reply has nothing but white space and thoughts."""
        return not self.visible.strip()


def parse(text: str) -> ParsedReply:
    """Parse a reply; an empty text is an empty reply."""
    visible = without_thoughts(text.replace("\r\n", "\n"))
    tools = take_tool_calls(visible)
    if tools.found:
        return _from_tools(visible, tools)
    fences, prose = split(visible)
    code = [fence for fence in fences if fence.kind is Kind.CODE]
    if not code:
        code = [fence for fence in fences if fence.kind is Kind.UNTAGGED and fence.runnable]
    cut = bool(code) and not code[-1].closed and not compiles(code[-1].code)
    return ParsedReply(
        visible=visible,
        blocks=tuple(fence.code for fence in (code[:-1] if cut else code) if fence.code.strip()),
        answer=find_answer(prose),
        skipped=tuple(_tag(fence) for fence in fences if fence not in code),
        cut=cut,
        names_final="FINAL" in prose,
    )


def _from_tools(visible: str, tools: ToolCalls) -> ParsedReply:
    return ParsedReply(
        visible=visible,
        blocks=tools.codes,
        answer=find_answer(tools.rest) if not tools.unknown else None,
        unknown_tools=tools.unknown,
    )


def _tag(fence: Fence) -> str:
    return fence.tag or "no tag"
