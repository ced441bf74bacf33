"""A job's program: code of the user that runs as the first turn, in the place of a root model's reply.

The chat shows it as a reply, so that the root model, if it is asked afterwards, goes on from there.
"""

import re

from rlm_dist.engine.parsing import ParsedReply
from rlm_dist.schema import Completion, Usage

MODEL = "program"
_FENCES = re.compile(r"`{3,}")


def program_completion(program: str) -> Completion:
    """The program in the form of a reply, which no model was asked for and which costs nothing."""
    fence = "`" * max(3, 1 + max(map(len, _FENCES.findall(program)), default=0))
    text = f"{fence}repl\n{program.rstrip()}\n{fence}"
    return Completion(text=text, usage=Usage(), finish_reason="stop", model=MODEL)


def program_reply(program: str) -> ParsedReply:
    """The program as its only block, whatever stands in it."""
    return ParsedReply(visible="", blocks=(program,), repl=(True,))
