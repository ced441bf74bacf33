"""The description of a job's tools, which follows the fixed part of the system prompt."""

from collections.abc import Sequence
from typing import NamedTuple

MAX_TOOL_CHARS = 1000
_INTRO = (
    "The REPL also has these functions. They run outside of it, take and return JSON values, and raise "
    "ToolError if they fail:"
)


class ToolDoc(NamedTuple):
    """A function as its user sees it: name and signature, and its docstring."""

    signature: str
    doc: str


def tool_docs(tools: Sequence[ToolDoc]) -> str:
    """The signature of each tool with the first paragraph of its docstring; empty if there are no tools."""
    return "\n".join([_INTRO, *map(_line, tools)]) + "\n" if tools else ""


def _line(tool: ToolDoc) -> str:
    paragraph = " ".join(tool.doc.strip().split("\n\n", 1)[0].split())
    line = f"- `{tool.signature}`" + (f": {paragraph}" if paragraph else "")
    return line if len(line) <= MAX_TOOL_CHARS else line[: MAX_TOOL_CHARS - 1] + "…"
